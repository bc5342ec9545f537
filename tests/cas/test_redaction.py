from __future__ import annotations

import pytest

from cas.redaction import Secrets, shown_command, shown_url

OPTIONS = {
    "key": "AKIAEXAMPLE",
    "secret": "open-sesame",
    "endpoint_url": "http://user:pass-word@host:9000",
    "client_kwargs": {"aws_session_token": "tok-en", "region_name": "eu-west-1"},
    "connection_string": b"AccountKey=azure-key",
    "headers": [{"Authorization": ["Bearer abc"]}],
    "anon": False,
}
SECRETS = (
    "AKIAEXAMPLE",
    "open-sesame",
    "pass-word",
    "tok-en",
    "AccountKey=azure-key",
    "Bearer abc",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_of_the_options_is_blanked_out_wherever_it_is(secret):
    secrets = Secrets(OPTIONS)
    assert secrets.hide(f"before {secret} after") == "before *** after"
    assert secret not in repr(secrets)


def test_what_is_no_secret_stays_readable():
    text = "no bucket in eu-west-1 at host:9000"
    assert Secrets(OPTIONS).hide(text) == text


def test_a_secret_that_contains_another_is_blanked_out_whole():
    secrets = Secrets({"key": "abc", "secret": "abcdef"})
    assert secrets.hide("abcdef") == "***"


def test_secrets_are_found_in_errors_and_in_what_led_to_them():
    secrets = Secrets({"password": "open sesame"})
    error = ValueError("failed")
    assert not secrets.are_in(error)
    error.__cause__ = OSError("bad password: open sesame")
    assert secrets.are_in(error)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("sftp://me:secret@host:22/a", "sftp://host:22/a"),
        ("sftp://me@host/a", "sftp://me@host/a"),
        ("sftp://me@host:22/a@b", "sftp://me@host:22/a@b"),
        ("ftp://me@mail.org:secret@host/a", "ftp://host/a"),
        ("https://me@mail.org:secret@host/a", "https://host/a"),
        ("https://me@token@host/a@b", "https://host/a@b"),
        ("s3://KEY:sec/ret?@bucket/a", "s3://bucket/a"),
        ("sftp://host:22/a@b", "sftp://host:22/a@b"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("https://host/a?sig=secret#x", "https://host/a"),
        ("https://token@host/a?x#y", "https://host/a"),
        ("HTTP://token@host", "HTTP://host"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("zip://a/b.csv::https://me:pw@host/c.zip?sig=x", "zip://a/b.csv::https://host/c.zip"),
        ("simplecache::s3://KEY:sec/ret@bucket/a", "simplecache::s3://bucket/a"),
        ("file:///a?b#c", "file:///a?b#c"),
        ("github://owner:repo@v1.2/a.csv?token=x", "github://owner:repo@v1.2/a.csv"),
        ("memory:", "memory:"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("psql postgresql://u:p/w@h:5432/db", "psql postgresql://u:***@h:5432/db"),
        ("redis-cli -u redis://:pw@h/0", "redis-cli -u redis:***"),
        ("git clone https://ghp_abc@h/x", "git clone https://***@h/x"),
        ("get http://h:8080/a@b", "get http://h:8080/a@b"),
        ("get ftp://me@mail.org:pw@h/a", "get ftp://me@mail.org:***@h/a"),
        ("get https://me@mail.org:pw@h/a@b", "get https://***@h/a@b"),
        ("get s3://b/k?token=1&x=2#y", "get s3://b/k?token=***&x=2#y"),
        ("x --token abc --api-key=xyz -token abc", "x --token *** --api-key=*** -token ***"),
        ("x --db.Password q --password -v", "x --db.Password *** --password -v"),
        ("x --max-tokens 5 --token-file f --key k", "x --max-tokens 5 --token-file f --key k"),
        ("env PGPASSWORD=q GITHUB_TOKEN=z N=1", "env PGPASSWORD=*** GITHUB_TOKEN=*** N=1"),
        ("curl -u me:pw --user=me:pw", "curl -u me:*** --user=me:***"),
        ("docker run -u 1000:1000 --user=0:0", "docker run -u 1000:1000 --user=0:0"),
    ],
)
def test_a_command_is_shown_without_its_secrets(command, shown):
    assert " ".join(shown_command(command.split(" "))) == shown


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("Authorization: Bearer abc def", "Authorization: ***"),
        ("-HX-Api-Key: abc", "-HX-Api-Key: ***"),
        ("curl -H 'Cookie: a=b c' https://u:p@h/", "curl -H 'Cookie: ***' https://***@h/"),
        ("x --token abc; PGPASSWORD='x y' psql", "x --token ***; PGPASSWORD=*** psql"),
        ('x --token "a b" c', "x --token *** c"),
        ("--token=a b\nc", "--token=***"),
        ("TOKEN=a b", "TOKEN=***"),
        ("a note on the token: it is long", "a note on the token: it is long"),
        ("print(password)", "print(password)"),
    ],
)
def test_a_word_of_a_command_that_is_a_text_is_shown_without_its_secrets(word, shown):
    assert shown_command(["sh", "-c", word]) == ["sh", "-c", shown]

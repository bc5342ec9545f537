"""Errors of clients that the tests do not run, recognised by name and attributes."""

from __future__ import annotations

import errno
import ssl

import pytest

from cas.backends.remote_errors import is_past_end, is_taken, translated
from cas.errors import (
    BackendError,
    BucketNotFoundError,
    ObjectNotFoundError,
    StorageAccessError,
    StorageFullError,
    TransientBackendError,
)
from cas.redaction import Secrets

SUBJECT = "gs://bucket/prefix/packs/one"


def client_error(name, *, base=Exception, **carried):
    """Return an exception with the name and the attributes of a client's."""
    module, _, kind = name.rpartition(".")
    error = type(kind, (base,), {"__module__": module})("as the client puts it")
    for attribute, value in carried.items():
        setattr(error, attribute, value)
    return error


def s3_error(code, status):
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return client_error("botocore.exceptions.ClientError", response=response)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (client_error("gcsfs.retry.HttpError", code=503), TransientBackendError, "503"),
        (client_error("gcsfs.retry.HttpError", code=401), StorageAccessError, "may read"),
        (
            client_error("azure.core.exceptions.HttpResponseError", status_code=429),
            TransientBackendError,
            "429",
        ),
        (
            client_error(
                "azure.core.exceptions.ResourceNotFoundError",
                status_code=404,
                error_code="ContainerNotFound",
            ),
            BucketNotFoundError,
            "no bucket gs://bucket;",
        ),
        (
            client_error("azure.core.exceptions.ServiceResponseError"),
            TransientBackendError,
            "connection failed",
        ),
        (
            client_error("google.auth.exceptions.DefaultCredentialsError"),
            StorageAccessError,
            "no credentials were found",
        ),
        (
            client_error("paramiko.ssh_exception.AuthenticationException"),
            StorageAccessError,
            "no credentials were found",
        ),
        (
            client_error("paramiko.ssh_exception.SSHException"),
            TransientBackendError,
            "connection failed",
        ),
        (EOFError(), TransientBackendError, "connection failed"),
        (TimeoutError(), TransientBackendError, "in time"),
        (FileNotFoundError("x"), ObjectNotFoundError, "is missing"),
        (PermissionError("x"), StorageAccessError, "may read"),
        (OSError(errno.ENOSPC, "full"), StorageFullError, "no space"),
        (NotImplementedError(), BackendError, "does not support the operation"),
        (ssl.SSLCertVerificationError("x"), BackendError, "certificate"),
        (OSError("some other\nreason"), BackendError, "OSError: some other reason"),
        (s3_error("RequestTimeTooSkewed", 403), StorageAccessError, "clock is wrong"),
        (s3_error("PermanentRedirect", 301), BackendError, "another region"),
        (s3_error("QuotaExceeded", 403), StorageFullError, "no space"),
        (s3_error("OperationAborted", 409), TransientBackendError, "OperationAborted"),
        (s3_error("SomethingNew", 403), StorageAccessError, "may read"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_says_what_it_means_and_what_to_do(error, kind, says):
    meant = translated(error, SUBJECT, Secrets({}))
    assert type(meant) is kind
    assert says in str(meant)
    assert "gs://bucket" in str(meant)
    assert "\n" not in str(meant)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("NotImplemented", 501),
        ("InvalidRequest", 400),
        ("SignatureDoesNotMatch", 403),
        ("AuthorizationHeaderMalformed", 400),
        ("XAmzContentSHA256Mismatch", 400),
    ],
)
def test_a_write_that_is_refused_for_its_checksum_names_the_setting(code, status):
    error = s3_error(code, status)
    told = translated(error, SUBJECT, Secrets({}), has_checksum=True)
    plain = translated(error, SUBJECT, Secrets({}))
    assert type(told) is type(plain)
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in str(told)
    assert "CHECKSUM" not in str(plain)


def test_another_refusal_of_a_write_does_not_name_it():
    told = translated(s3_error("AccessDenied", 403), SUBJECT, Secrets({}), has_checksum=True)
    assert "CHECKSUM" not in str(told)


def test_a_cause_that_carries_the_answer_is_found_below_what_hides_it():
    error = OSError("translated by a filesystem")
    error.__cause__ = s3_error("SlowDown", 503)
    assert isinstance(translated(error, SUBJECT, Secrets({})), TransientBackendError)


@pytest.mark.parametrize(
    "error",
    [
        FileExistsError(),
        s3_error("PreconditionFailed", 412),
        client_error("azure.core.exceptions.ResourceExistsError", status_code=409),
    ],
    ids=["gcsfs", "s3fs", "adlfs"],
)
def test_a_name_that_is_taken_is_recognised(error):
    assert is_taken(error)
    assert not is_past_end(error)


def test_a_range_past_the_end_is_recognised():
    assert is_past_end(s3_error("InvalidRange", 416))
    assert is_past_end(client_error("gcsfs.retry.HttpError", code=416))
    assert not is_past_end(OSError("other"))

"""Translation of errors of fsspec filesystems to those of `cas.errors`.

This module identifies exceptions by name and attributes, so that it need not import any client. It
searches the chain of causes for codes and statuses.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cas.errors import (
    BackendError,
    BucketNotFoundError,
    ObjectNotFoundError,
    StorageAccessError,
    StorageFullError,
    TransientBackendError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.redaction import Secrets

__all__ = ["is_past_end", "is_taken", "is_unsupported", "part_from", "translated"]

_RENEW: Final = "the credentials have expired; renew them and repeat the call"
_GRANT: Final = (
    "access was refused; check the name, and that these credentials may read, write and list there"
)
_REGION: Final = (
    "the bucket is in another region; set AWS_DEFAULT_REGION to it, or give "
    "storage_options={'client_kwargs': {'region_name': ...}}"
)
_CHECKSUMS: Final = (
    "a service other than Amazon's may refuse its checksums: set "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or give storage_options="
    "{'config_kwargs': {'request_checksum_calculation': 'when_required'}}"
)
"""botocore sends them since version 1.36, and services answer in many ways."""
_NO_CREDENTIALS: Final = (
    "no credentials were found; configure them where the service's own tools look for them "
    "(for S3: environment, ~/.aws or an instance role), or give storage_options"
)
_NO_WRITING: Final = (
    "this kind of storage does not support the operation; use another one for blobs"
)
_UNTRUSTED: Final = (
    "its certificate is not trusted here; correct the URL of the service, or install the "
    "certificate of its authority"
)

_REFUSALS: Final = {
    "AccessDenied": _GRANT,
    "AccountProblem": _GRANT,
    "AllAccessDisabled": _GRANT,
    "InvalidObjectState": "the object is archived; restore it in the service's console first",
    "InvalidAccessKeyId": "the service does not know this access key; correct the credentials",
    "InvalidSecurity": "the service does not accept these credentials; correct them",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; correct the credentials",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "RequestExpired": _RENEW,
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it and repeat the call",
}
_REFUSING_TYPES: Final = {
    "botocore.exceptions.NoCredentialsError": _NO_CREDENTIALS,
    "botocore.exceptions.PartialCredentialsError": _NO_CREDENTIALS,
    "botocore.exceptions.ProfileNotFound": "the profile of AWS_PROFILE is not configured here",
    "botocore.exceptions.TokenRetrievalError": _RENEW,
    "botocore.exceptions.SSOTokenLoadError": _RENEW,
    "botocore.exceptions.UnauthorizedSSOTokenError": _RENEW,
    "botocore.exceptions.CredentialRetrievalError": _NO_CREDENTIALS,
    "google.auth.exceptions.DefaultCredentialsError": _NO_CREDENTIALS,
    "google.auth.exceptions.RefreshError": _RENEW,
    "azure.core.exceptions.ClientAuthenticationError": _NO_CREDENTIALS,
    "paramiko.ssh_exception.AuthenticationException": _NO_CREDENTIALS,
}
_PERMANENT: Final = {
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "InvalidBucketName": "the service allows no bucket of that name; correct the URL",
    "MethodNotAllowed": _NO_WRITING,
    "NotImplemented": _NO_WRITING,
}
_REFUSED_CHECKSUMS: Final = {
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "InvalidArgument",
    "InvalidDigest",
    "InvalidRequest",
    "MalformedTrailerError",
    "MissingContentLength",
    "NotImplemented",
    "SignatureDoesNotMatch",
    "UnsupportedArgument",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_MISSING_BUCKET: Final = {"NoSuchBucket", "ContainerNotFound"}
_FULL_CODES: Final = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
_FULL_NUMBERS: Final = {errno.ENOSPC, errno.EDQUOT}
_TRANSIENT_CODES: Final = {
    # Damaged in transit: the service compared checksums and stored nothing.
    "BadDigest",
    "IncompleteBody",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_TRANSIENT_STATUSES: Final = {408, 425, 429, 500, 502, 503, 504}
_TRANSIENT_TYPES: Final = {
    "aiohttp.client_exceptions.ClientError",
    "azure.core.exceptions.ServiceRequestError",
    "azure.core.exceptions.ServiceResponseError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.exceptions.ResponseStreamingError",
    "botocore.parsers.ResponseParserError",
    "google.auth.exceptions.TransportError",
    "http.client.IncompleteRead",
    "paramiko.ssh_exception.SSHException",
    "requests.exceptions.ChunkedEncodingError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
}
_TAKEN_TYPES: Final = {"azure.core.exceptions.ResourceExistsError"}


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer of the service, as far as the client exposes it."""

    code: str | None
    status: int | None


def is_taken(error: BaseException) -> bool:
    """Return whether a conditional write was refused because the object exists."""
    if isinstance(error, FileExistsError) or _types(error) & _TAKEN_TYPES:
        return True
    answer = _answer(error)
    return answer.code == "PreconditionFailed" or answer.status == 412


def is_past_end(error: BaseException) -> bool:
    """Return whether a range was refused because it starts at or after the end of the object."""
    answer = _answer(error)
    return answer.code == "InvalidRange" or answer.status == 416


def is_unsupported(error: BaseException) -> bool:
    """Return whether the service does not support the request."""
    answer = _answer(error)
    return answer.code == "NotImplemented" or answer.status == 501


def part_from(error: BaseException, handled: BaseException | None) -> None:
    """Cut the chain of an error's causes before `handled`."""
    for cause in _causes(error):
        if handled is not None and cause.__context__ is handled:
            cause.__context__ = None


def translated(
    error: Exception, subject: str, secrets: Secrets, *, has_checksum: bool = False
) -> BackendError:
    """Return the error of `cas.errors` for an error of a filesystem.

    A missing object gives ObjectNotFoundError.

    Parameters
    ----------
    subject
        The object being read or written, for display.
    has_checksum
        Whether the request had a checksum of botocore, which the service may not know.
    """
    answer = _answer(error)
    meant = _from_answer(answer, subject) or _from_types(error, subject, secrets)
    if has_checksum and (answer.code in _REFUSED_CHECKSUMS or answer.status in (411, 501)):
        return type(meant)(subject, f"{meant.reason}; {_CHECKSUMS}")
    return meant


def _from_answer(answer: _Answer, subject: str) -> BackendError | None:
    code, status = answer.code or "", answer.status
    if code in _MISSING_BUCKET:
        bucket = "/".join(subject.split("/")[:3])
        return BucketNotFoundError(bucket)
    if code in _REFUSALS:
        return StorageAccessError(subject, _REFUSALS[code])
    if code in _PERMANENT:
        return BackendError(subject, _PERMANENT[code])
    if code in _FULL_CODES or status == 507:
        return StorageFullError(subject)
    if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUSES:
        said = " ".join(dict.fromkeys(filter(None, (str(status or ""), code))))
        return TransientBackendError(subject, f"the service answered {said}")
    if status in (401, 403):
        return StorageAccessError(subject, _GRANT)
    return None


def _from_types(error: Exception, subject: str, secrets: Secrets) -> BackendError:
    types = _types(error)
    for name, reason in _REFUSING_TYPES.items():
        if name in types:
            return StorageAccessError(subject, reason)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return BackendError(subject, _UNTRUSTED)
    if isinstance(error, TimeoutError):
        return TransientBackendError(subject, "the service did not answer in time")
    if isinstance(error, ConnectionError | EOFError | socket.gaierror) or types & _TRANSIENT_TYPES:
        return TransientBackendError(subject, f"the connection failed ({type(error).__name__})")
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError(subject)
    if isinstance(error, PermissionError):
        return StorageAccessError(subject, _GRANT)
    if isinstance(error, NotImplementedError):
        return BackendError(subject, _NO_WRITING)
    if isinstance(error, OSError) and error.errno in _FULL_NUMBERS:
        return StorageFullError(subject)
    said = " ".join(secrets.hide(str(error)).split()) or "no reason was given"
    return BackendError(subject, f"{type(error).__name__}: {said}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _types(error: BaseException) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def _answer(error: BaseException) -> _Answer:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore
            code = response.get("Error", {}).get("Code")
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return _Answer(None if code is None else str(code), _number(status or code))
        for name in ("status_code", "status", "code"):  # azure, aiohttp, gcsfs
            status = _number(getattr(cause, name, None))
            if status is not None:
                code = getattr(cause, "error_code", None)
                return _Answer(None if code is None else str(code), status)
    return _Answer(None, None)


def _number(value: object) -> int | None:
    text = str(value)
    return int(text) if len(text) == 3 and text.isdecimal() else None

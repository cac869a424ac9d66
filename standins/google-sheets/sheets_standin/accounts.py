"""Service accounts: the key, the token endpoint, and what a token allows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sheets_standin.errors import ApiError

GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""The audience that google-auth names in its assertions, whatever the key's token_uri says."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFETIME = 3599
MAX_ASSERTION_LIFETIME = 3600
CLOCK_LEEWAY = 10

_AUTH = "https://www.googleapis.com/auth/"
WRITE_SCOPES = {_AUTH + name for name in ("spreadsheets", "drive", "drive.file")}
READ_SCOPES = WRITE_SCOPES | {_AUTH + "spreadsheets.readonly", _AUTH + "drive.readonly"}


def new_key(email: str, token_uri: str) -> dict[str, str]:
    """A service-account key, with the fields of the JSON file that Google hands out."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "sheets-standin",
        "private_key_id": secrets.token_hex(20),
        "private_key": pem.decode(),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**21)),
        "token_uri": token_uri,
    }


class TokenRefused(Exception):
    """The token endpoint's refusal, an OAuth error and its description."""

    def __init__(self, error: str, description: str):
        super().__init__(description)
        self.error = error
        self.description = description


@dataclass(frozen=True)
class Token:
    """What a bearer token stands for; `expires_at` is in seconds since 1970."""

    email: str
    scopes: frozenset[str]
    expires_at: float


class Accounts:
    """Checks signed requests for tokens, and tokens, which are lost when the process ends.

    Args:
        key: The key of the one service account there is.
        reads: The scopes that let it read.
        writes: Those of them that let it write, too.
    """

    def __init__(
        self,
        key: dict[str, str],
        reads: Collection[str] = READ_SCOPES,
        writes: Collection[str] = WRITE_SCOPES,
    ) -> None:
        self._reads, self._writes = frozenset(reads), frozenset(writes)
        self._email = key["client_email"]
        self._key_id = key["private_key_id"]
        self._audiences = [GOOGLE_AUDIENCE, key["token_uri"]]
        private = serialization.load_pem_private_key(key["private_key"].encode(), None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise TypeError("The key of a service account is an RSA key.")
        self._public_key = private.public_key()
        self._tokens: dict[str, Token] = {}

    def grant(self, grant_type: str, assertion: str) -> dict[str, Any]:
        """Exchange a signed assertion for a bearer token.

        Returns:
            The token endpoint's answer.

        Raises:
            TokenRefused: The assertion is not this account's, is expired or malformed, or asks
                for no scope, or for one that opens nothing here.
        """
        if grant_type != GRANT_TYPE:
            raise TokenRefused("unsupported_grant_type", f"Invalid grant_type: {grant_type}")
        claims = self._verify(assertion)
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or scopes - self._reads:
            raise TokenRefused(
                "invalid_scope", "Invalid OAuth scope or ID token audience provided."
            )
        token = secrets.token_urlsafe(32)
        self._tokens[token] = Token(self._email, scopes, time.time() + TOKEN_LIFETIME)
        return {"access_token": token, "expires_in": TOKEN_LIFETIME, "token_type": "Bearer"}

    def _verify(self, assertion: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(
                assertion,
                self._public_key,
                algorithms=["RS256"],
                audience=self._audiences,
                issuer=self._email,
                leeway=CLOCK_LEEWAY,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.InvalidIssuerError:
            raise TokenRefused("invalid_grant", "Invalid grant: account not found") from None
        except jwt.InvalidSignatureError:
            raise TokenRefused("invalid_grant", "Invalid JWT Signature.") from None
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            raise TokenRefused(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim.",
            ) from None
        except jwt.InvalidTokenError as error:
            raise TokenRefused("invalid_grant", f"Invalid JWT: {error}") from None
        if claims["exp"] - claims["iat"] > MAX_ASSERTION_LIFETIME:
            raise TokenRefused("invalid_grant", "Invalid JWT: exp is more than an hour after iat.")
        return claims

    def authorize(self, authorization: str | None, writes: bool) -> str:
        """The e-mail of the account whose token this is.

        Args:
            authorization: The request's header.
            writes: Whether the request changes anything.

        Raises:
            ApiError: 401, the token is missing, unknown or expired; 403, its scopes do not suffice.
        """
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise ApiError(
                401,
                "Request is missing required authentication credential. Expected OAuth 2 access "
                "token, login cookie or other valid authentication credential.",
            )
        token = self._tokens.get(text)
        if token is None or token.expires_at <= time.time():
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential.",
            )
        if not token.scopes & (self._writes if writes else self._reads):
            reason = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "domain": "googleapis.com",
            }
            raise ApiError(403, "Request had insufficient authentication scopes.", [reason])
        return token.email

    def expire_tokens(self) -> None:
        """Make every token handed out so far invalid."""
        self._tokens.clear()

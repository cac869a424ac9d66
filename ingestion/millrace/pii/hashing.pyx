# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""HMAC-SHA256 of the texts of an Arrow array, in hexadecimal.

In C and without the GIL, because a Python object for every value costs more than all the rest of a
landing. SHA-256 is OpenSSL's, by its functions that look up and allocate nothing per value.
"""

import hashlib

import pyarrow as pa

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT32_MAX, int32_t, uint8_t
from libc.string cimport memset

from millrace.arrow_buffers cimport Texts, is_valid, texts_of


cdef extern from "openssl/sha.h" nogil:
    ctypedef struct SHA256_CTX:
        pass
    int SHA256_Init(SHA256_CTX *state)
    int SHA256_Update(SHA256_CTX *state, const void *data, size_t length)
    int SHA256_Final(uint8_t *digest, SHA256_CTX *state)


cdef enum:
    BLOCK_BYTES = 64
    DIGEST_BYTES = 32
    HEX_BYTES = 64


cdef const char *DIGITS = b"0123456789abcdef"


cdef class Hasher:
    """HMAC-SHA256 under one key; threads may share it.

    Args:
        key: Of any length.
    """

    # The states of SHA-256 after the key, padded as in RFC 2104: they are the same for every value.
    cdef SHA256_CTX inner
    cdef SHA256_CTX outer

    def __cinit__(self, bytes key not None):
        if len(key) > BLOCK_BYTES:
            key = hashlib.sha256(key).digest()
        block = key.ljust(BLOCK_BYTES, b"\0")
        _begin(&self.inner, bytes([byte ^ 0x36 for byte in block]))
        _begin(&self.outer, bytes([byte ^ 0x5C for byte in block]))

    def hexdigests(self, texts):
        """Hash each text.

        Args:
            texts: An array of Arrow's type ``string``.

        Returns:
            A string array of the same length: 64 hexadecimal digits for a text, NULL for NULL.

        Raises:
            TypeError: the array has another type.
            ValueError: the hashes do not fit into one array, which ends at 2 GiB.
        """
        if texts.type != pa.string():
            raise TypeError(f"texts are hashed, not {texts.type}")
        cdef Py_ssize_t count = len(texts) - texts.null_count
        if count > INT32_MAX // HEX_BYTES:
            raise ValueError(f"{count:,} hashes do not fit into an array")
        validity = texts.buffers()[0]
        # The validity bits are reused, as the NULLs are the same. The bits of a slice may begin
        # inside a byte: then as many empty values come before the first one, and nobody reads them.
        cdef Py_ssize_t before = texts.offset % 8
        ends = PyBytes_FromStringAndSize(NULL, (before + len(texts) + 1) * sizeof(int32_t))
        hashes = PyBytes_FromStringAndSize(NULL, count * HEX_BYTES)
        memset(PyBytes_AS_STRING(ends), 0, (before + 1) * sizeof(int32_t))
        self._hash(
            texts_of(texts),
            PyBytes_AS_STRING(hashes),
            <int32_t *>PyBytes_AS_STRING(ends) + before + 1,
        )
        return pa.Array.from_buffers(
            pa.string(),
            len(texts),
            [
                None if validity is None else validity.slice(texts.offset // 8),
                pa.py_buffer(ends),
                pa.py_buffer(hashes),
            ],
            texts.null_count,
            before,
        )

    cdef void _hash(self, Texts texts, char *hashes, int32_t *ends) noexcept:
        """Write the hashes one after the other, and the offset at which each value's ends."""
        cdef Py_ssize_t number, at
        cdef int32_t end = 0
        with nogil:
            for number in range(texts.count):
                at = texts.first + number
                if is_valid(texts.validity, at):
                    _write_hexdigest(
                        &self.inner,
                        &self.outer,
                        texts.data + texts.offsets[at],
                        texts.offsets[at + 1] - texts.offsets[at],
                        hashes + end,
                    )
                    end += HEX_BYTES
                ends[number] = end


cdef void _begin(SHA256_CTX *state, bytes block) noexcept:
    SHA256_Init(state)
    SHA256_Update(state, PyBytes_AS_STRING(block), BLOCK_BYTES)


cdef void _write_hexdigest(
    const SHA256_CTX *inner,
    const SHA256_CTX *outer,
    const uint8_t *text,
    size_t length,
    char *hexdigest,
) noexcept nogil:
    cdef uint8_t[DIGEST_BYTES] digest
    cdef SHA256_CTX state = inner[0]
    cdef Py_ssize_t at
    SHA256_Update(&state, text, length)
    SHA256_Final(digest, &state)
    state = outer[0]
    SHA256_Update(&state, digest, DIGEST_BYTES)
    SHA256_Final(digest, &state)
    for at in range(DIGEST_BYTES):
        hexdigest[2 * at] = DIGITS[digest[at] >> 4]
        hexdigest[2 * at + 1] = DIGITS[digest[at] & 15]

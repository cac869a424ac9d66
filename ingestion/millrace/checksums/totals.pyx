# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Checksums of the values of an Arrow array, summed up.

In C, because a Python object for every value costs more than reading it, and without Python's lock.
"""

import pyarrow as pa

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from millrace.arrow_buffers cimport Texts, is_valid, texts_of


cdef extern from "openssl/md5.h" nogil:
    uint8_t *MD5(const uint8_t *data, size_t length, uint8_t *digest)


cdef enum:
    # The most digits of a decimal, its sign, and a zero and a point before them.
    DECIMAL_BYTES = 38 + 3
    MD5_BYTES = 16


# CRC-32's polynomial, its bits in reversed order.
cdef uint32_t POLYNOMIAL = 0xEDB88320
cdef uint32_t[256] CRC_OF_BYTE


cdef void _fill() noexcept:
    cdef uint32_t byte, crc
    cdef int _bit
    for byte in range(256):
        crc = byte
        for _bit in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        CRC_OF_BYTE[byte] = crc


_fill()

ctypedef uint32_t (*Function)(const uint8_t *value, Py_ssize_t length) noexcept nogil


def crc32_total(values, int scale=0):
    """The sum of the CRC-32 of all values that are not NULL.

    Args:
        values: An array of Arrow's type ``string`` or ``binary``.
        scale: So many of the last digits of each value come after a decimal point.

    Raises:
        TypeError: the array has another type.
    """
    return _total(values, scale, _crc32)


def md5_total(values, int scale=0):
    """The sum of the first 32 bits of the MD5 of all values that are not NULL.

    Args and errors:
        As of ``crc32_total``.
    """
    return _total(values, scale, _md5)


cdef uint64_t _total(values, int scale, Function function) except? 0:
    if values.type not in (pa.string(), pa.binary()):
        raise TypeError(f"checksums are of texts and bytes, not of {values.type}")
    cdef Texts texts = texts_of(values)
    cdef uint64_t total
    with nogil:
        total = _sum(&texts, scale, function)
    return total


cdef uint64_t _sum(Texts *texts, int scale, Function function) noexcept nogil:
    cdef uint8_t[DECIMAL_BYTES] decimal
    cdef const uint8_t *value
    cdef Py_ssize_t at, length
    cdef uint64_t total = 0
    for at in range(texts.first, texts.first + texts.count):
        if not is_valid(texts.validity, at):
            continue
        value = texts.data + texts.offsets[at]
        length = texts.offsets[at + 1] - texts.offsets[at]
        if scale:
            length = _write_decimal(value, length, scale, decimal)
            value = decimal
        total += function(value, length)
    return total


cdef uint32_t _crc32(const uint8_t *value, Py_ssize_t length) noexcept nogil:
    cdef uint32_t crc = ~<uint32_t>0
    cdef Py_ssize_t at
    for at in range(length):
        crc = (crc >> 8) ^ CRC_OF_BYTE[(crc ^ value[at]) & 0xFF]
    return ~crc


cdef uint32_t _md5(const uint8_t *value, Py_ssize_t length) noexcept nogil:
    cdef uint8_t[MD5_BYTES] digest
    cdef uint32_t first = 0
    cdef int at
    MD5(value, length, digest)
    for at in range(4):
        first = (first << 8) | digest[at]
    return first


cdef Py_ssize_t _write_decimal(
    const uint8_t *whole, Py_ssize_t length, int scale, uint8_t *text
) noexcept nogil:
    """Write a whole number with a decimal point: ``-5`` is ``-0.05`` by the scale 2."""
    cdef Py_ssize_t at = 0, end = 0, digits = length, _zero
    if whole[0] == b"-":
        text[end] = b"-"
        end, at, digits = 1, 1, length - 1
    if digits <= scale:
        text[end] = b"0"
        text[end + 1] = b"."
        end += 2
        for _zero in range(scale - digits):
            text[end] = b"0"
            end += 1
    for at in range(at, length):
        if digits > scale and at == length - scale:
            text[end] = b"."
            end += 1
        text[end] = whole[at]
        end += 1
    return end

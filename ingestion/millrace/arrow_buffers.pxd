"""The buffers of Arrow's arrays, as modules that are compiled read them."""

from libc.stdint cimport int32_t, uint8_t, uintptr_t


cdef struct Texts:
    # A string or binary array: value `at` is the bytes of `data` from `offsets[at]` to
    # `offsets[at + 1]`.
    const uint8_t *data
    const int32_t *offsets
    const uint8_t *validity
    # Where the array begins in them, and how many values it has.
    Py_ssize_t first
    Py_ssize_t count


cdef inline Texts texts_of(array):
    """The buffers of a string or binary array, which has to outlive them."""
    validity, offsets, data = array.buffers()
    return Texts(
        <uint8_t *>address(data),
        <int32_t *>address(offsets),
        <uint8_t *>address(validity),
        array.offset,
        len(array),
    )


cdef inline uintptr_t address(buffer):
    return 0 if buffer is None else buffer.address


cdef inline bint is_valid(const uint8_t *validity, Py_ssize_t at) noexcept nogil:
    return validity == NULL or (validity[at // 8] >> (at % 8)) & 1

"""Return codes of the core's `noexcept nogil` functions, and the function that makes exceptions of them."""

cdef enum:
    WH_OK = 0
    WH_E_LENGTH = -1        # a datagram or field of a length no valid one has
    WH_E_TYPE = -2          # unknown message type or reserved bytes set
    WH_E_MAC = -3           # mac1 or mac2 does not verify
    WH_E_AUTH = -4          # an AEAD tag does not verify
    WH_E_KEY = -5           # a public key of low order or non-canonical, or a zero shared secret
    WH_E_REPLAY = -6        # counter or timestamp already seen, or too old
    WH_E_INDEX = -7         # receiver index matches nothing
    WH_E_LIMIT = -8         # rate limit or a bounded table is full
    WH_E_STATE = -9         # right message, wrong moment
    WH_E_MEMORY = -10       # allocation failed
    WH_E_WORKBIT = -11      # a stranger's key with too few workbits
    WH_E_COUNT = 12         # number of codes above and WH_OK, for counters indexed by -code

cdef const char* rc_name(int rc) noexcept nogil
cdef object raise_rc(int rc, str what)

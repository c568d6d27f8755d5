/** Numbers of RFC 1035 and its successors, as they stand in messages. */
export const recordType = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  ANY: 255,
} as const

/** The highest type below the query-only types (IXFR, AXFR, MAILB, MAILA), and the highest of those. */
export const queryOnlyTypes = { above: 250, upTo: 254 } as const

/** Response codes. */
export const rcode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const

/** Response code of EDNS versions that are not supported; its upper bits travel in the OPT record. */
export const badVersion = 16

/** Bits of the second word of a message. */
export const flag = { response: 0x8000, authoritative: 0x0400, truncated: 0x0200, recursionDesired: 0x0100 } as const

/** Two more bits of the second word: recursion available, and those that a client sets for its resolver. */
export const recursionAvailable = 0x0080
export const authenticData = 0x0020
export const checkingDisabled = 0x0010

/** The class of everything on the Internet. */
export const internetClass = 1

/** Largest UDP message sent with EDNS: passes every path without fragments. Without EDNS it is the classic 512. */
export const ednsUdpBytes = 1232
export const classicUdpBytes = 512

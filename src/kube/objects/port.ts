import type { Protocol } from '../../model/index.ts'
import type { Field } from './field.ts'

/** The protocol of a port; undefined for one that this product does not carry. TCP when absent. */
export function parseProtocol(port: Field): Protocol | undefined {
  const protocol = port.at('protocol')
  switch (protocol.text()) {
    case '':
    case 'TCP':
      return 'tcp'
    case 'UDP':
      return 'udp'
    case 'SCTP':
      return undefined
    default:
      throw protocol.error('must be TCP, UDP or SCTP')
  }
}

/** A port number that must be there. */
export function parsePortNumber(field: Field): number {
  const port = field.integer(1, 65535)
  if (port === undefined) throw field.error('is missing')
  return port
}

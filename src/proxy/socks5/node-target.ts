import type { Snapshot } from '../../catalog/index.ts'
import type { ClusterNode } from '../../model/index.ts'
import { reply, SocksError, type SocksRequest } from './messages.ts'

/** A node that a client means. */
export interface NodeTarget {
  readonly nodeName: string
  /** Its own address as the cluster knows it; the far end dials whichever it has. */
  readonly address: string
}

/** Stands for the node's own address where that is not known. */
const unknownAddress = '0.0.0.0'

/** Finds the node by its name, known to the cluster or not, or by an address that only one node has. */
export function nodeTargetOf({ destination }: SocksRequest, { nodes }: Snapshot): NodeTarget {
  const text = (destination.kind === 'name' ? destination.name : destination.address).toLowerCase().replace(/\.$/, '')
  // Some clients send an address as if it were a name.
  if (destination.kind === 'address' || isAddress(text)) return targetByAddress(text, nodes)
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(text)) {
    throw new SocksError(`${JSON.stringify(text)} is no name of a node`, reply.hostUnreachable)
  }
  return { nodeName: text, address: nodes.get(text)?.internalIPs[0] ?? unknownAddress }
}

function targetByAddress(address: string, nodes: ReadonlyMap<string, ClusterNode>): NodeTarget {
  const known = [...nodes.values()].filter(({ internalIPs }) => internalIPs.some((own) => isSame(own, address)))
  const [node, second] = known
  if (node === undefined) throw new SocksError(`${address} is the address of no node`, reply.notAllowed)
  if (second !== undefined) {
    // Edge sites reuse networks; only names tell their nodes apart.
    const names = known.map(({ name }) => name).join(', ')
    throw new SocksError(`${address} is the address of several nodes (${names}); use a name`, reply.notAllowed)
  }
  return { nodeName: node.name, address: node.internalIPs[0] ?? unknownAddress }
}

function isAddress(text: string): boolean {
  return text.includes(':') || /^[\d.]+$/.test(text)
}

/** Equal as text, or as IPv6 addresses however they are written. */
function isSame(left: string, right: string): boolean {
  return left === right || (left.includes(':') && right.includes(':') && canonicalOf(left) === canonicalOf(right))
}

function canonicalOf(address: string): string {
  try {
    return new URL(`http://[${address}]/`).hostname
  } catch {
    return address
  }
}

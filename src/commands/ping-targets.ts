import type { Catalog } from '../catalog/index.ts'
import { describeError } from '../observability/index.ts'
import type { PingAnswer, Tunnel } from '../tunnel/index.ts'

/** What became of asking one node. */
export type PingResult = ({ readonly node: string } & PingAnswer) | { readonly node: string; readonly error: string }

/** What pinging needs. */
export interface PingOptions {
  /** A node, or a Service as NAME or NAMESPACE/NAME. */
  readonly target: string
  readonly nodeName: string
  readonly catalog: Catalog
  readonly tunnel: Pick<Tunnel, 'ping'> | undefined
}

const timeoutMs = 4000

/** Nodes of one Service that are asked; more say nothing more. */
const maxNodes = 16

/** Measures the way to a node, or to every node that has an endpoint of a Service. */
export async function pingTargets({ target, nodeName, catalog, tunnel }: PingOptions): Promise<readonly PingResult[]> {
  const nodes = nodesOf(catalog, target)
  if (typeof nodes === 'string') return [{ node: target, error: nodes }]
  return await Promise.all(nodes.slice(0, maxNodes).map((node) => pingNode(node, nodeName, tunnel)))
}

/** The nodes with endpoints of the Service of that name, or why there are none; the name itself when it may be a node's. */
function nodesOf({ current }: Catalog, target: string): string[] | string {
  const [namespace, name] = target.includes('/') ? target.split('/', 2) : ['default', target]
  const service = [...current.services.values()].find((one) => one.namespace === namespace && one.name === name)
  const slices = service === undefined ? [] : current.slicesOf(service)
  const nodes = slices.flatMap(({ endpoints }) => endpoints.flatMap(({ nodeName }) => nodeName ?? []))
  if (nodes.length > 0) return [...new Set(nodes)]
  if (!target.includes('/')) return [target]
  return service === undefined
    ? `this node knows no Service ${target}; write NAMESPACE/NAME, or the name of a node`
    : `the Service ${target} has no endpoints on a node`
}

async function pingNode(node: string, ownName: string, tunnel: PingOptions['tunnel']): Promise<PingResult> {
  if (node === ownName) return { node, error: 'this is the node itself' }
  if (tunnel === undefined) return { node, error: 'the tunnel is off; set modules.edgeTunnel.enable: true' }
  try {
    return { node, ...(await tunnel.ping(node, AbortSignal.timeout(timeoutMs))) }
  } catch (error) {
    return { node, error: describeError(error) }
  }
}

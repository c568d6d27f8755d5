/**
 * A member of the mesh that asks others for what they must not give: `hostile-peer.ts SETTINGS`, as JSON. Prints one
 * line of JSON for each request: how it failed, or that it was served.
 */
import process from 'node:process'
import { multiaddr } from '@multiformats/multiaddr'
import { createCatalog } from '../../../src/catalog/index.ts'
import { type ByteStream, createDirectDialer, DialError } from '../../../src/net/index.ts'
import { createHealth, createMetrics, silentLogger } from '../../../src/observability/index.ts'
import { tunnelSchemaOf } from '../../../src/tunnel/config.ts'
import { flowProtocol } from '../../../src/tunnel/flows/carrier.ts'
import { requestOpen } from '../../../src/tunnel/flows/open-message.ts'
import { createHost } from '../../../src/tunnel/host/host.ts'
import { loadMembership } from '../../../src/tunnel/identity/load-membership.ts'
import { startTunnel } from '../../../src/tunnel/index.ts'

/** What the peer is told. */
export interface HostileSettings {
  readonly stateDir: string
  readonly server: string
  readonly psk: string
  /** Node under attack. */
  readonly victim: { readonly name: string; readonly address: string; readonly port: number }
  /** Asked for as a peer that everybody knows. */
  readonly targets: readonly { readonly nodeName: string; readonly address: string; readonly port: number }[]
}

/** How a request ended: `served`, or the failure and text of the far end. */
export interface HostileReport {
  readonly outcome: string
  readonly message?: string
}

import type { Ipv4Network } from '../model/index.ts'
import { createDirectDialer } from '../net/index.ts'
import { createReachability, type Reachability } from './reach/reachability.ts'
import { isUsableAddress } from './service-port-plan.ts'
import type { ServiceProxyOptions } from './service-proxy-options.ts'

/** The reachability that a proxy's options ask for; it asks nobody yet. */
export function reachabilityFor(
  { config, common, nodeName, peers, logger, rules }: ServiceProxyOptions,
  syntheticNetwork: Ipv4Network,
  onChange: () => void,
): Reachability {
  const isUsable = (address: string) => isUsableAddress(address, syntheticNetwork)
  // Rules of iptables write nothing down.
  const seesUse = rules.kind === 'nftables'
  const known = { mode: config.reachability, nodeName, deviceName: common.bridgeDeviceName, peers, logger }
  return createReachability({ ...known, direct: createDirectDialer(), isUsable, seesUse, onChange })
}

import { readEphemeralPorts } from '../linux/index.ts'
import { AddressInUseError, type Dialer } from '../net/index.ts'
import { listenPortCandidates } from './listen-port.ts'
import type { ServiceProxyOptions } from './service-proxy-options.ts'
import { startUserspaceProxy, type UserspaceProxy } from './userspace/userspace-proxy.ts'

/** Starts the userspace proxy on the first candidate that nobody else has; rejects when all are taken. */
export async function listenOnFreePort(options: ServiceProxyOptions, dialer: Dialer): Promise<UserspaceProxy> {
  const { config, datagramDialer, logger, metrics } = options
  const { balancing, dialTimeoutMs, udpIdleTimeoutMs, loadBalancer } = config
  const ways = { dialer, datagramDialer, hashRing: loadBalancer.consistentHash }
  const limits = { balancing, dialTimeoutMs, udpIdleTimeoutMs }
  const start = options.startUserspaceProxy ?? startUserspaceProxy
  let failure: unknown
  for (const port of listenPortCandidates(config.listenPort, await readEphemeralPorts())) {
    try {
      return await start({ host: '0.0.0.0', port, ...ways, ...limits, logger, metrics })
    } catch (error) {
      if (!(error instanceof AddressInUseError)) throw error
      failure = error
    }
  }
  throw failure
}

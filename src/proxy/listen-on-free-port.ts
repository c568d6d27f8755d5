import { readEphemeralPorts } from '../linux/index.ts'
import { AddressInUseError, type Dialer } from '../net/index.ts'
import type { Logger } from '../observability/index.ts'
import { listenPortCandidates, morePortCandidates } from './listen-port.ts'
import type { ServiceProxyOptions } from './service-proxy-options.ts'
import { startUserspaceProxy, type UserspaceProxy } from './userspace/userspace-proxy.ts'

/** With the default range this is room for 49,000 ServicePorts. */
const mostPorts = 8

/** Starts the userspace proxy on the first candidate that nobody else has; rejects when all are taken. */
export async function listenOnFreePort(options: ServiceProxyOptions, dialer: Dialer): Promise<UserspaceProxy> {
  const { config, datagramDialer, logger, metrics } = options
  const { balancing, dialTimeoutMs, udpIdleTimeoutMs, loadBalancer } = config
  const ways = { dialer, datagramDialer, hashRing: loadBalancer.consistentHash }
  const limits = { balancing, dialTimeoutMs, udpIdleTimeoutMs }
  const start = options.startUserspaceProxy ?? startUserspaceProxy
  let failure: unknown
  for (const port of listenPortCandidates(config.listenPort, readEphemeralPorts())) {
    try {
      return await start({ host: '0.0.0.0', port, ...ways, ...limits, logger, metrics })
    } catch (error) {
      if (!(error instanceof AddressInUseError)) throw error
      failure = error
    }
  }
  throw failure
}

/** Makes the userspace proxy listen on one port more; false when all candidates are taken, or it has enough. */
export async function listenOnOneMore(userspace: UserspaceProxy, configured: number, logger: Logger): Promise<boolean> {
  const used = userspace.ports
  if (used.length >= mostPorts) return false
  for (const port of morePortCandidates(configured, { used, ephemeral: readEphemeralPorts() })) {
    try {
      await userspace.listenAlso(port)
      const address = `0.0.0.0:${port}`
      logger.info({ address }, 'listens on one port more: all synthetic addresses are in use')
      return true
    } catch (error) {
      if (!(error instanceof AddressInUseError)) throw error
    }
  }
  return false
}

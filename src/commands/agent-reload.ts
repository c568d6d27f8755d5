import type { Environment } from '../config/index.ts'
import { serverEntriesOf, serverHostsOf, type Tunnel } from '../tunnel/index.ts'
import type { Boot } from './boot.ts'
import { membershipKeys, startConfigWatch } from './watch-config.ts'

/** The configuration as it is now, where it may change while the agent runs. */
export interface AgentReload extends AsyncDisposable {
  /** Addresses of the configured servers and relays, which are never intercepted; the same set until they change. */
  excludedAddresses(): ReadonlySet<string>
}

/** What takes effect without a restart. */
const reloadable = ['modules.edgeTunnel.servers', 'modules.edgeTunnel.relayNodes', ...membershipKeys]

/** Follows the agent's configuration file and gives changed servers and relays to the tunnel. */
export function startAgentReload(
  { loaded, config, loggerOf }: Boot<'agent'>,
  env: Environment,
  tunnel: Pick<Tunnel, 'reload'> | undefined,
): AgentReload {
  const { nodeName } = config
  const { listenPort } = config.modules.edgeTunnel
  const hostsOf = (tunnelConfig: Parameters<Tunnel['reload']>[0]) =>
    serverHostsOf(serverEntriesOf(tunnelConfig, { nodeName, listenPort }))
  let excluded = hostsOf(config.modules.edgeTunnel)
  const watch = startConfigWatch({
    loaded,
    env,
    reloadable,
    async onChange({ modules: { edgeTunnel } }) {
      const hosts = hostsOf(edgeTunnel)
      await tunnel?.reload(edgeTunnel)
      excluded = hosts
    },
    logger: loggerOf('config'),
  })
  return { excludedAddresses: () => excluded, [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose]() }
}

import type { Environment } from '../config/index.ts'
import { serverHostsOf, type Tunnel } from '../tunnel/index.ts'
import type { Boot } from './boot.ts'
import { startConfigWatch } from './watch-config.ts'

/** The configuration as it is now, where it may change while the agent runs. */
export interface AgentReload extends AsyncDisposable {
  /** Addresses of the configured servers, which are never intercepted; the same set until they change. */
  excludedAddresses(): ReadonlySet<string>
}

/** What takes effect without a restart. */
const reloadable = ['modules.edgeTunnel.servers', 'modules.edgeTunnel.relayNodes'] as const

/** Follows the agent's configuration file and gives changed servers to the tunnel. */
export function startAgentReload(
  { loaded, config, loggerOf }: Boot<'agent'>,
  env: Environment,
  tunnel: Pick<Tunnel, 'setServers'> | undefined,
): AgentReload {
  let excluded = serverHostsOf(config.modules.edgeTunnel.servers)
  const watch = startConfigWatch({
    loaded,
    env,
    reloadable,
    async onChange({ modules: { edgeTunnel } }) {
      const hosts = serverHostsOf(edgeTunnel.servers)
      await tunnel?.setServers(edgeTunnel.servers)
      excluded = hosts
    },
    logger: loggerOf('config'),
  })
  return { excludedAddresses: () => excluded, [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose]() }
}

import { type Ipv4Network, ipv4ToNumber, isInIpv4Network, numberToIpv4, parseIpv4Network } from '../model/index.ts'
import type { AgentConfig, Configs, Role } from './documents.ts'

/** What is wrong with a value whose shape is right, or with two values together. */
export interface Finding {
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly remedy: string
}

type TunnelConfig = AgentConfig['modules']['edgeTunnel']

const metadataService = '169.254.169.254'
const rangeExample = 'write a free range, for example 169.254.64.0/19'

/** Checks what one value's schema cannot: values that exclude each other, and ranges that hold special addresses. */
export function checkMeaning<R extends Role>(role: R, config: Configs[R]): Finding[] {
  const findings = checkTunnel(role, config.modules.edgeTunnel)
  return isAgent(config) ? [...findings, ...checkAgent(config)] : findings
}

function isAgent(config: Configs[Role]): config is AgentConfig {
  return 'edgeProxy' in config.modules
}

function checkTunnel(role: Role, tunnel: TunnelConfig): Finding[] {
  const path = ['modules', 'edgeTunnel']
  return [
    ...checkTransport(tunnel),
    ...checkRotation(tunnel),
    ...checkRevoked(tunnel),
    ...checkDerived(role, tunnel),
    ...repeatsOf(tunnel.servers, [...path, 'servers']),
    ...repeatsOf(tunnel.muxers, [...path, 'muxers']),
    ...repeatsOf(tunnel.revoked, [...path, 'revoked']),
    ...when(role === 'server' && !tunnel.enable, {
      path: [...path, 'enable'],
      message: 'a server whose tunnel is off does nothing',
      remedy: 'remove the line',
    }),
    ...portRepeatsOf(tunnel),
    ...when(tunnel.enable && tunnel.metricConfig.enable && tunnel.metricConfig.port === tunnel.listenPort, {
      path: [...path, 'metricConfig', 'port'],
      message: `${tunnel.listenPort} is also modules.edgeTunnel.listenPort`,
      remedy: 'choose different ports',
    }),
  ]
}

function portRepeatsOf({ listenPort, morePorts }: TunnelConfig): Finding[] {
  return morePorts.flatMap((port, index) =>
    when(port === listenPort || morePorts.indexOf(port) < index, {
      path: ['modules', 'edgeTunnel', 'morePorts', index],
      message: `${port} is listened on already`,
      remedy: 'remove it',
    }),
  )
}

function checkTransport({ transport, psk }: TunnelConfig): Finding[] {
  if (transport === 'tcp') return []
  const message =
    transport === 'quic' && psk.enable
      ? 'quic cannot carry a pre-shared key, and psk.enable is true'
      : `${transport} is not available in this version`
  return [{ path: ['modules', 'edgeTunnel', 'transport'], message, remedy: 'write tcp' }]
}

function checkRotation({ psk }: TunnelConfig): Finding[] {
  return when(psk.previousPath === psk.path, {
    path: ['modules', 'edgeTunnel', 'psk', 'previousPath'],
    message: `${psk.path} is also modules.edgeTunnel.psk.path`,
    remedy: 'copy the old key to a file of its own before the new one takes its place, and name that',
  })
}

function checkRevoked({ peers, revoked }: TunnelConfig): Finding[] {
  return revoked.flatMap((entry, index) =>
    when(Object.hasOwn(peers, entry), {
      path: ['modules', 'edgeTunnel', 'revoked', index],
      message: `${entry} is also in modules.edgeTunnel.peers`,
      remedy: 'revoke its peer ID to let another machine take the name, or remove it from peers',
    }),
  )
}

const serverPort = 20004

/** Agents of the Go system look for every relay at the port that they listen on themselves. */
function checkDerived(role: Role, { identity, enable, listenPort, servers, trust }: TunnelConfig): Finding[] {
  if (identity !== 'derived' || !enable) return []
  const path = ['modules', 'edgeTunnel']
  const remedy = 'write the port that all agents listen on, usually 20006'
  return [
    ...when(trust === 'pinned', {
      path: [...path, 'trust'],
      message: 'in a mesh of derived identities every name has one identity, that anybody can derive',
      remedy: 'remove the line',
    }),
    ...when(role === 'server' && listenPort === serverPort, {
      path: [...path, 'listenPort'],
      message: `in a mesh of derived identities a server cannot have a port of its own, ${serverPort}`,
      remedy,
    }),
    ...servers.flatMap((server, index) =>
      when(role !== 'server' && portOf(server) !== listenPort, {
        path: [...path, 'servers', index],
        message: `in a mesh of derived identities servers listen on everyone's port ${listenPort}, not ${portOf(server)}`,
        remedy: `write the server's port, :${listenPort}`,
      }),
    ),
  ]
}

function portOf(server: string): number {
  return Number(/:(\d+)$/.exec(server.replace(/\/p2p\/.*$/, ''))?.[1] ?? serverPort)
}

function repeatsOf(values: readonly string[], path: readonly PropertyKey[]): Finding[] {
  return values.flatMap((value, index) =>
    when(values.indexOf(value) < index, {
      path: [...path, index],
      message: `${JSON.stringify(value)} is listed twice`,
      remedy: 'remove one of the two',
    }),
  )
}

function checkAgent(config: AgentConfig): Finding[] {
  const { commonConfig, kubeAPIConfig } = config
  const { edgeDNS, edgeProxy } = config.modules
  const otherSource = kubeAPIConfig.kubeConfig === '' ? 'master' : 'kubeConfig'
  return [
    ...checkBridgeAddress(commonConfig.bridgeDeviceIP),
    ...checkSyntheticRange(edgeProxy.syntheticRange, commonConfig.bridgeDeviceIP),
    ...when(kubeAPIConfig.manifests !== '' && kubeAPIConfig[otherSource] !== '', {
      path: ['kubeAPIConfig', otherSource],
      message: 'names a second source of objects beside kubeAPIConfig.manifests',
      remedy: 'remove one of the two',
    }),
    ...when(edgeDNS.enable && edgeProxy.socks5Proxy.enable && edgeDNS.listenPort === edgeProxy.socks5Proxy.listenPort, {
      path: ['modules', 'edgeProxy', 'socks5Proxy', 'listenPort'],
      message: `${edgeDNS.listenPort} is also modules.edgeDNS.listenPort, on the same address`,
      remedy: 'choose different ports',
    }),
  ]
}

const specialNetworks = ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3']

function checkBridgeAddress(address: string): Finding[] {
  const isSpecial = specialNetworks.some((text) => isInText(address, text))
  return when(isSpecial || address === metadataService, {
    path: ['commonConfig', 'bridgeDeviceIP'],
    message: `${address} cannot be the address of a device`,
    remedy: 'write a free address, for example 169.254.96.16',
  })
}

function checkSyntheticRange(text: string, bridgeAddress: string): Finding[] {
  const path = ['modules', 'edgeProxy', 'syntheticRange']
  const network = parseIpv4Network(text)
  if (network === undefined) return [{ path, ...explainNoNetwork(text) }]
  if (network.prefixLength < 8 || network.prefixLength > 30) {
    const message = `expected a prefix between /8 and /30, got ${JSON.stringify(text)}`
    return [{ path, message, remedy: rangeExample }]
  }
  return [
    ...when(isInIpv4Network(metadataService, network), {
      path,
      message: `${text} holds ${metadataService}, the metadata service of clouds`,
      remedy: rangeExample,
    }),
    ...when(isInIpv4Network(bridgeAddress, network), {
      path,
      message: `${text} holds commonConfig.bridgeDeviceIP, ${bridgeAddress}`,
      remedy: 'choose a range without it',
    }),
    ...when(holdsSpecialAddress(network), {
      path,
      message: `${text} holds loopback, multicast or unspecified addresses`,
      remedy: rangeExample,
    }),
  ]
}

function holdsSpecialAddress(network: Ipv4Network): boolean {
  return specialNetworks.some((text) => isInText(numberToIpv4(network.base), text))
}

function explainNoNetwork(text: string): Pick<Finding, 'message' | 'remedy'> {
  const [address = '', prefix = ''] = text.split('/')
  const value = ipv4ToNumber(address)
  const length = /^\d{1,2}$/.test(prefix) ? Number(prefix) : 99
  if (value === undefined || length > 32) {
    return { message: `expected an IPv4 network, got ${JSON.stringify(text)}`, remedy: rangeExample }
  }
  const base = numberToIpv4(Math.floor(value / 2 ** (32 - length)) * 2 ** (32 - length))
  return { message: `${text} has bits set beyond its prefix`, remedy: `write ${base}/${length}` }
}

function isInText(address: string, network: string): boolean {
  const parsed = parseIpv4Network(network)
  return parsed !== undefined && isInIpv4Network(address, parsed)
}

function when(isWrong: boolean, finding: Finding): Finding[] {
  return isWrong ? [finding] : []
}

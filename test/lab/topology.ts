/** How a LAN's router treats what crosses it. */
export type Nat =
  /** Masquerades and keeps source ports where it can; lets nothing in that was not asked for. */
  | 'port-preserving'
  /** Masquerades with a random source port for each connection; lets nothing in that was not asked for. */
  | 'randomising'
  /** As `port-preserving`, but answers what was not asked for with a reset. */
  | 'resetting'
  /** As `port-preserving`, behind another router that does the same, as that of a carrier. */
  | 'double'
  /** As `port-preserving`, and lets nothing out but TCP to port 443 and DNS. */
  | 'only-443'
  /** As `port-preserving`, and lets nothing out: what runs on the router itself may, such as an HTTP proxy. */
  | 'only-proxy'
  /** Routes without translation; lets nothing in that was not asked for. */
  | 'no-inbound'
  /** Routes both ways without a filter. */
  | 'none'

/** A machine of the lab; the defaults are those of a plain Kubernetes node. */
export interface NodeSpec {
  /** Network of the node's pod bridge `cni0`; default 10.244.N.0/24 when the node has pods. May repeat in other nodes. */
  readonly podBridge?: string
  /** Names of the pods on the bridge, each in a namespace of its own. */
  readonly pods?: readonly string[]
  /** Whether bridged frames pass iptables and nft `ip` chains; the kernel's default when absent. */
  readonly bridgeNf?: boolean
  /** `drop`: someone else's firewall drops whatever is forwarded. */
  readonly forwardPolicy?: 'accept' | 'drop'
  /** `drop`: someone else's firewall drops what comes in, except loopback, ICMP and replies. */
  readonly inputPolicy?: 'accept' | 'drop'
  /** Who owns these policies: `iptables` as docker and ufw, `nft` as firewalld. Default iptables. */
  readonly firewallTool?: 'iptables' | 'nft'
  /** False leaves the node without a default route. Default true. */
  readonly defaultRoute?: boolean
  /** Reverse path filter of all interfaces. Default 1, strict. */
  readonly rpFilter?: 0 | 1 | 2
}

/** Several nodes: names alone, or names with their options. */
export type NodeSpecs = readonly string[] | Readonly<Record<string, NodeSpec>>

/** A site behind a router. */
export interface LanSpec {
  /** Default `port-preserving`. */
  readonly nat?: Nat
  /** A /24; default 192.168.N.0/24. Two LANs may have the same one. */
  readonly subnet?: string
  readonly nodes: NodeSpecs
}

/** What `createLab` builds. */
export interface LabSpec {
  /** Nodes with a public address on the WAN. */
  readonly cloud?: NodeSpecs
  /** LANs by name. */
  readonly lans?: Readonly<Record<string, LanSpec>>
  /** A records of the resolver on the WAN, which every node uses; default `upstream.example` 198.51.100.7. */
  readonly dnsRecords?: Readonly<Record<string, string>>
}

/** One end of a cable: an interface in a namespace. */
export interface Plug {
  readonly host: string
  readonly link: string
}

/** One network namespace and how to set it up from inside. */
export interface HostPlan {
  readonly name: string
  readonly kind: 'wan' | 'router' | 'node' | 'pod'
  /** The address others use. */
  readonly address: string
  /** Text of /etc/resolv.conf; the machine's own file when absent. */
  readonly resolvConf?: string
  readonly sysctls: readonly string[]
  /** Lines for `ip -batch`. */
  readonly ip: readonly string[]
  /** Text for `nft -f`, may be empty. */
  readonly nft: string
  /** Further commands, as shell lines. */
  readonly commands: readonly string[]
}

/** A lab on paper. */
export interface LabPlan {
  readonly hosts: readonly HostPlan[]
  readonly cables: readonly (readonly [Plug, Plug])[]
  /** The WAN's end of the cable of each LAN and cloud node. */
  readonly uplinks: Readonly<Record<string, Plug>>
}

/** Address of the resolver that belongs to the lab's internet. */
export const upstreamDnsAddress = '203.0.113.53'
const wanGateway = '203.0.113.1'
const bridgeNfFile = '/proc/sys/net/bridge/bridge-nf-call-iptables'
const bridgeNfOff = `[ ! -e ${bridgeNfFile} ] || echo 0 > ${bridgeNfFile}`
const podResolvConf = `nameserver 169.254.96.16
search default.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
`

/** Mutable while planning; one per lab. */
interface Draft {
  readonly hosts: HostPlan[]
  readonly cables: [Plug, Plug][]
  readonly uplinks: Record<string, Plug>
  /** Ports of the WAN's bridge, in order. */
  readonly wanLinks: string[]
  /** Routes of the WAN to LANs without NAT. */
  readonly wanRoutes: string[]
  nodeCount: number
}

/** Turns the wishes into namespaces, cables and commands; throws on names or networks that clash. Pure. */
export function planLab(spec: LabSpec): LabPlan {
  const draft: Draft = { hosts: [], cables: [], uplinks: {}, wanLinks: [], wanRoutes: [], nodeCount: 0 }
  for (const [index, [name, node]] of nodesOf(spec.cloud).entries()) {
    const address = `203.0.113.${100 + index}`
    draft.uplinks[name] = plugIntoWan(draft, { host: name, link: 'eth0' })
    planNode(draft, { name, node, address, gateway: wanGateway })
  }
  for (const [index, [name, lan]] of Object.entries(spec.lans ?? {}).entries()) {
    if (draft.uplinks[name] !== undefined) throw new Error(`Two parts of the lab are called "${name}"`)
    planLan(draft, { name, lan, index })
  }
  planWan(draft)
  const names = draft.hosts.map((host) => host.name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new Error(`Two hosts of the lab are called "${twice}"`)
  return draft
}

function nodesOf(specs: NodeSpecs = []): readonly (readonly [string, NodeSpec])[] {
  const isNames = (value: NodeSpecs): value is readonly string[] => Array.isArray(value)
  return isNames(specs) ? specs.map((name) => [name, {}] as const) : Object.entries(specs)
}

function plugIntoWan(draft: Draft, end: Plug): Plug {
  const port = { host: 'wan', link: `port${draft.wanLinks.length}` }
  draft.wanLinks.push(port.link)
  draft.cables.push([port, end])
  return port
}

function planWan(draft: Draft): void {
  draft.hosts.push({
    name: 'wan',
    kind: 'wan',
    address: wanGateway,
    sysctls: ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.default.send_redirects=0'],
    ip: [
      ...bridgeLines('wan0', draft.wanLinks, [`${wanGateway}/24`, `${upstreamDnsAddress}/24`]),
      ...draft.wanRoutes.map((route) => `route add ${route}`),
    ],
    nft: '',
    commands: [bridgeNfOff],
  })
}

function planLan(draft: Draft, { name, lan, index }: { name: string; lan: LanSpec; index: number }): void {
  const network = networkOf(lan.subnet ?? `192.168.${index + 1}.0/24`)
  if (network.prefixLength !== 24) throw new Error(`LAN "${name}" must have a /24, not ${lan.subnet}`)
  const router = `router-${name}`
  const wanAddress = `203.0.113.${10 + index}`
  const nat = lan.nat ?? 'port-preserving'
  const nodes = nodesOf(lan.nodes)
  const outside = nat === 'double' ? planCarrier(draft, name, wanAddress, index) : planUplink(draft, name, wanAddress)
  if (nat === 'none' || nat === 'no-inbound') draft.wanRoutes.push(`${network.base}.0/24 via ${wanAddress}`)
  const ports = nodes.map(([nodeName, node], nodeIndex) => {
    const port = { host: router, link: `port${nodeIndex}` }
    draft.cables.push([port, { host: nodeName, link: 'eth0' }])
    planNode(draft, {
      name: nodeName,
      node,
      address: `${network.base}.${11 + nodeIndex}`,
      gateway: `${network.base}.1`,
    })
    return port.link
  })
  draft.hosts.push({
    name: router,
    kind: 'router',
    address: outside.address,
    sysctls: ['net.ipv4.ip_forward=1'],
    ip: [...bridgeLines('lan0', ports, [`${network.base}.1/24`]), ...outsideLines(outside)],
    nft: renderRouterRules(nat),
    commands: [bridgeNfOff],
  })
}

/** What a router has on its interface `wan0`. */
interface Outside {
  readonly address: string
  readonly gateway: string
}

function outsideLines({ address, gateway }: Outside): string[] {
  return [`addr add ${address}/24 dev wan0`, 'link set wan0 up', `route add default via ${gateway}`]
}

function planUplink(draft: Draft, name: string, address: string): Outside {
  draft.uplinks[name] = plugIntoWan(draft, { host: `router-${name}`, link: 'wan0' })
  return { address, gateway: wanGateway }
}

/** Plans the router `carrier-NAME` between the LAN's own router and the WAN. */
function planCarrier(draft: Draft, name: string, wanAddress: string, index: number): Outside {
  const carrier = `carrier-${name}`
  const base = `100.64.${index + 1}`
  draft.uplinks[name] = plugIntoWan(draft, { host: carrier, link: 'wan0' })
  draft.cables.push([
    { host: carrier, link: 'port0' },
    { host: `router-${name}`, link: 'wan0' },
  ])
  draft.hosts.push({
    name: carrier,
    kind: 'router',
    address: wanAddress,
    sysctls: ['net.ipv4.ip_forward=1'],
    ip: [
      ...bridgeLines('lan0', ['port0'], [`${base}.1/24`]),
      ...outsideLines({ address: wanAddress, gateway: wanGateway }),
    ],
    nft: renderRouterRules('port-preserving'),
    commands: [bridgeNfOff],
  })
  return { address: `${base}.2`, gateway: `${base}.1` }
}

function renderRouterRules(nat: Nat): string {
  if (nat === 'none') return ''
  const unasked = nat === 'resetting' ? 'meta l4proto tcp reject with tcp reset' : 'drop'
  const masquerade = `chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan0" masquerade${nat === 'randomising' ? ' random,fully-random' : ''}
  }`
  return `table inet router {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ${outboundRuleOf(nat)}
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "wan0" ct state new ${unasked}
  }
  ${nat === 'no-inbound' ? '' : masquerade}
}
`
}

function outboundRuleOf(nat: Nat): string {
  if (nat === 'only-proxy') return ''
  return nat === 'only-443' ? 'iifname "lan0" th dport { 53, 443 } accept' : 'iifname "lan0" accept'
}

interface NodePlace {
  readonly name: string
  readonly node: NodeSpec
  readonly address: string
  readonly gateway: string
}

function planNode(draft: Draft, { name, node, address, gateway }: NodePlace): void {
  draft.nodeCount += 1
  const hasPods = node.podBridge !== undefined || (node.pods ?? []).length > 0
  const podNetwork = networkOf(node.podBridge ?? `10.244.${draft.nodeCount}.0/24`)
  draft.hosts.push({
    name,
    kind: 'node',
    address,
    resolvConf: `nameserver ${upstreamDnsAddress}\n`,
    sysctls: [
      'net.ipv4.ip_forward=1',
      `net.ipv4.conf.all.rp_filter=${node.rpFilter ?? 1}`,
      `net.ipv4.conf.default.rp_filter=${node.rpFilter ?? 1}`,
    ],
    ip: [
      `addr add ${address}/24 dev eth0`,
      'link set eth0 up',
      ...(node.defaultRoute === false ? [] : [`route add default via ${gateway}`]),
      ...(hasPods ? planPods(draft, name, node.pods ?? [], podNetwork) : []),
    ],
    nft: (hasPods ? renderPodMasquerade(podNetwork) : '') + renderNftFirewall(node),
    commands: [...bridgeNfCommands(node.bridgeNf), ...iptablesCommands(node)],
  })
}

/** Plans the pods of a node and returns the lines that make the node's bridge. */
function planPods(draft: Draft, nodeName: string, pods: readonly string[], network: Network): string[] {
  const bridge = `${network.base}.1`
  const ports = pods.map((pod, index) => {
    const port = { host: nodeName, link: `veth${index}` }
    const address = `${network.base}.${2 + index}`
    draft.cables.push([port, { host: pod, link: 'eth0' }])
    draft.hosts.push({
      name: pod,
      kind: 'pod',
      address,
      resolvConf: podResolvConf,
      sysctls: [],
      ip: [
        `addr add ${address}/${network.prefixLength} dev eth0`,
        'link set eth0 up',
        `route add default via ${bridge}`,
      ],
      nft: '',
      commands: [],
    })
    return port.link
  })
  return bridgeLines('cni0', ports, [`${bridge}/${network.prefixLength}`])
}

/** What a CNI plugin does so that pods reach addresses outside their network. */
function renderPodMasquerade({ cidr }: Network): string {
  return `table ip lab_cni {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${cidr} oifname != "cni0" masquerade
  }
}
`
}

function renderNftFirewall(node: NodeSpec): string {
  if (node.firewallTool !== 'nft') return ''
  return `table inet other_firewall {
  chain forward { type filter hook forward priority filter + 10; policy ${node.forwardPolicy ?? 'accept'}; }
  chain input {
    type filter hook input priority filter + 10; policy ${node.inputPolicy ?? 'accept'};
    iifname "lo" accept
    ct state established,related accept
    meta l4proto icmp accept
  }
}
`
}

function iptablesCommands(node: NodeSpec): string[] {
  if (node.firewallTool === 'nft') return []
  const input = [
    'iptables -A INPUT -i lo -j ACCEPT',
    'iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT',
    'iptables -A INPUT -p icmp -j ACCEPT',
    'iptables -P INPUT DROP',
  ]
  return [
    ...(node.forwardPolicy === 'drop' ? ['iptables -P FORWARD DROP'] : []),
    ...(node.inputPolicy === 'drop' ? input : []),
  ]
}

function bridgeNfCommands(bridgeNf: boolean | undefined): string[] {
  if (bridgeNf === undefined) return []
  if (!bridgeNf) return [bridgeNfOff]
  return [
    `[ -e ${bridgeNfFile} ] || { echo "this kernel has no br_netfilter" >&2; exit 1; }`,
    `echo 1 > ${bridgeNfFile}`,
  ]
}

function bridgeLines(bridge: string, ports: readonly string[], addresses: readonly string[]): string[] {
  return [
    `link add ${bridge} type bridge`,
    ...ports.flatMap((port) => [`link set ${port} master ${bridge}`, `link set ${port} up`]),
    ...addresses.map((address) => `addr add ${address} dev ${bridge}`),
    `link set ${bridge} up`,
  ]
}

interface Network {
  readonly cidr: string
  /** The first three numbers; the lab uses the first 254 addresses of any network. */
  readonly base: string
  readonly prefixLength: number
}

function networkOf(cidr: string): Network {
  const match = /^(\d+\.\d+\.\d+)\.0\/(\d+)$/.exec(cidr)
  const prefixLength = Number(match?.[2])
  if (match?.[1] === undefined || !(prefixLength >= 8 && prefixLength <= 24)) {
    throw new Error(`Networks of a lab look like 10.244.1.0/24 or 172.17.0.0/16, not ${cidr}`)
  }
  return { cidr, base: match[1], prefixLength }
}

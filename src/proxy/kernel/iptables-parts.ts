import type { Protocol } from '../../model/index.ts'
import type { Destination } from '../service-plan.ts'
import type { AddressRule } from './iptables-buckets.ts'
import { digestOf, turnoffOf } from './iptables-choice.ts'
import type { IptablesFeatures } from './iptables-features.ts'
import type { Choice, RuledExternalAccess, RuledServicePort } from './ruled-service-port.ts'

/** What a ServicePort adds to chains that all share, and its own chains. */
export interface IptablesPart {
  /** Its own chains that choose among slots. */
  readonly choices: Map<string, readonly string[]>
  readonly cluster: AddressRule[]
  readonly external: AddressRule[]
  readonly outside: AddressRule[]
  readonly nodePorts: string[]
  readonly outsidePorts: string[]
  readonly loopback: string[]
  readonly refused: AddressRule[]
  readonly refusedExternal: AddressRule[]
  readonly refusedPorts: string[]
  /** Addresses and ports whose connections we translate. */
  readonly translated: AddressRule[]
  readonly translatedPorts: string[]
  readonly hairpins: string[]
  /** Its own chain that knows who may use addresses of load balancers. */
  readonly guards: Map<string, readonly string[]>
  readonly guarded: string[]
  /** What is dropped when it comes from outside. */
  readonly dropped: string[]
}

/** Rules for one ServicePort; without an endpoint it is refused. */
export function iptablesPartOf(entry: RuledServicePort, features: IptablesFeatures): IptablesPart {
  const part = emptyPart()
  const tell = features.comment
    ? `-m comment --comment "${entry.name.replaceAll(/[^\w./:, -]/g, '_').slice(0, 200)}" `
    : ''
  const lead = (choice: Choice, protocol: Protocol): string => {
    const { target, chain } = turnoffOf(choice, protocol, features)
    if (chain !== undefined) part.choices.set(...chain)
    return `${tell}${target}`
  }
  for (const destination of entry.destinations) {
    const { address, protocol } = destination
    if (entry.slots.length === 0) part.refused.push({ address, rule: `${matchOf(destination)} ${tell}-j ${refusing}` })
    else {
      part.cluster.push({ address, rule: `${matchOf(destination)} ${lead(entry, protocol)}` })
      part.translated.push(translatedTo(address))
    }
  }
  for (const pair of entry.hairpins) {
    const [address] = pair.split(' . ')
    part.hairpins.push(`-s ${address}/32 -d ${address}/32 -j ${translating}`)
  }
  if (entry.external !== undefined) {
    addDestinations(part, entry.external, tell, lead)
    addNodePort(part, entry.external, { tell, lead, features })
    addGuard(part, entry.external, entry.name)
  }
  return part
}

/** Chain that refuses what comes to it. */
export const refusing = 'EDGEMESH-REFUSE'
/** Chain that translates the source of connections that are ours. */
export const translating = 'EDGEMESH-SOURCES'

function emptyPart(): IptablesPart {
  return {
    choices: new Map(),
    cluster: [],
    external: [],
    outside: [],
    nodePorts: [],
    outsidePorts: [],
    loopback: [],
    refused: [],
    refusedExternal: [],
    refusedPorts: [],
    translated: [],
    translatedPorts: [],
    hairpins: [],
    guards: new Map(),
    guarded: [],
    dropped: [],
  }
}

type Lead = (choice: Choice, protocol: Protocol) => string

function addDestinations(
  part: IptablesPart,
  { destinations, choice, outside, keepsSources }: RuledExternalAccess,
  tell: string,
  lead: Lead,
): void {
  for (const destination of destinations) {
    const { address, protocol } = destination
    const match = matchOf(destination)
    if (choice.slots.length === 0) {
      part.refusedExternal.push({ address, rule: `${match} ${tell}-j ${refusing}` })
      continue
    }
    part.external.push({ address, rule: `${match} ${lead(choice, protocol)}` })
    if (keepsSources !== true) part.translated.push(translatedTo(address))
    if (outside === undefined) continue
    if (outside.slots.length === 0) part.dropped.push(`${match} ${tell}-j DROP`)
    else part.outside.push({ address, rule: `${match} ${lead(outside, protocol)}` })
  }
}

function addNodePort(
  part: IptablesPart,
  { protocol, nodePort, choice, outside, loopback }: RuledExternalAccess,
  { tell, lead, features }: { readonly tell: string; readonly lead: Lead; readonly features: IptablesFeatures },
): void {
  if (nodePort === undefined || !features.addrtype) return
  const match = `-p ${protocol} -m ${protocol} --dport ${nodePort}`
  if (choice.slots.length === 0) {
    part.refusedPorts.push(`${match} ${tell}-j ${refusing}`)
    return
  }
  part.nodePorts.push(`${match} ${lead(choice, protocol)}`)
  part.translatedPorts.push(`-p ${protocol} -m conntrack --ctorigdstport ${nodePort} -j MASQUERADE`)
  if (outside?.slots.length === 0) part.dropped.push(`-m addrtype --dst-type LOCAL ${match} ${tell}-j DROP`)
  else if (outside !== undefined) part.outsidePorts.push(`${match} ${lead(outside, protocol)}`)
  if (loopback === undefined) return
  part.loopback.push(`${match} ${tell}-j DNAT --to-destination ${loopback.address}:${loopback.port}`)
}

function addGuard(part: IptablesPart, { guard }: RuledExternalAccess, name: string): void {
  if (guard === undefined) return
  const chain = `EDGEMESH-G-${digestOf(name)}`
  part.guards.set(chain, [...guard.networks.map((network) => `-s ${network} -j RETURN`), '-j DROP'])
  for (const destination of guard.destinations) part.guarded.push(`${matchOf(destination)} -j ${chain}`)
}

const matchOf = ({ address, protocol, port }: Destination): string =>
  `-d ${address}/32 -p ${protocol} -m ${protocol} --dport ${port}`

const translatedTo = (address: string): AddressRule => ({
  address,
  rule: `-m conntrack --ctorigdst ${address}/32 -j MASQUERADE`,
})

import type { RulesetInput } from './render-ruleset.ts'
import type { Choice, RuledServicePort } from './ruled-service-port.ts'

const slots = [
  { address: '192.0.2.2', port: 80 },
  { address: '192.0.2.3', port: 80 },
]

/** A ServicePort that uses all there is beside the way it chooses. */
function sampleOf(at: number, choice: Pick<Choice, 'kind' | 'affinitySeconds'>): RuledServicePort {
  const name = `sample/${at}:80/tcp`
  const destination = { protocol: at % 2 === 0 ? 'tcp' : 'udp', address: `192.0.2.${10 + at}`, port: 80 } as const
  const outer = { ...destination, address: `198.51.100.${10 + at}` }
  return {
    name,
    slots,
    ...choice,
    destinations: [destination],
    hairpins: ['192.0.2.2 . 192.0.2.2'],
    external: {
      protocol: destination.protocol,
      destinations: [outer],
      nodePort: 30_000 + at,
      choice: { name, slots, ...choice },
      outside: { name: `${name}, outside`, slots: slots.slice(1), ...choice },
      loopback: { address: '169.254.64.1', port: 24_001 },
      guard: { destinations: [outer], networks: ['192.0.2.0/24', '198.51.100.0/24'] },
    },
  }
}

/** Rules of every shape that we write, to find out whether a kernel takes them before there is any Service. */
export const sampleRules: RulesetInput = {
  servicePorts: new Map(
    [
      sampleOf(0, { kind: 'random' }),
      sampleOf(1, { kind: 'random', affinitySeconds: 10_800 }),
      sampleOf(2, { kind: 'turns' }),
      sampleOf(3, { kind: 'source' }),
      { ...sampleOf(4, { kind: 'random' }), slots: [] },
    ].map((entry) => [entry.name, entry]),
  ),
  syntheticRange: '169.254.64.0/19',
  listenPorts: [24_001],
  bridgeAddress: '169.254.96.16',
  dns: { address: '169.254.96.16', port: 53 },
  foreignInterfaces: ['lo'],
  servesForeign: true,
  switchedNetworks: ['192.0.2.0/24'],
}

import type { Snapshot } from '../catalog/index.ts'
import type { Answer } from './records.ts'
import { type Question, Zone, type ZoneOptions } from './zone.ts'

/** What the zones of a cluster depend on besides the snapshot. */
export interface ClusterZonesOptions extends Omit<ZoneOptions, 'domain'> {
  /** Domains that all hold the same names, the first of which reverse names lead to. */
  readonly domains: readonly string[]
}

// Longer chains of ExternalNames from one domain to the other are circles.
const maxCrossings = 8

/** The names of one snapshot in each domain of the cluster. */
export class ClusterZones {
  readonly #zones: readonly Zone[]

  constructor(snapshot: Snapshot, { domains, ...options }: ClusterZonesOptions) {
    this.#zones = domains.map((domain) => new Zone(snapshot, { ...options, domain }))
  }

  /** The answer; undefined when the name is not ours and someone else must be asked. */
  answer(question: Question): Answer | undefined {
    const own = this.#zones.find((zone) => zone.contains(question.name)) ?? this.#zones[0]
    let answer = own?.answer(question)
    for (let crossings = 0; crossings < maxCrossings; crossings++) {
      const name = answer?.continuesAt
      const zone = this.#zones.find((each) => name !== undefined && each.contains(name))
      const rest = name === undefined ? undefined : zone?.answer({ name, type: question.type })
      if (answer === undefined || name === undefined || rest === undefined) return answer
      answer = { ...rest, answers: [...answer.answers, ...rest.answers.map((record) => ({ name, ...record }))] }
    }
    return answer
  }
}

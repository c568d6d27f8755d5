/** What was done to the mesh of a chaos run and when, and what may be asked of it at any time. */

/** One disturbance. Times are those of `Date.now()`. */
export interface Disturbance {
  readonly what: string
  readonly from: number
  /** Undefined while it lasts. */
  to: number | undefined
  /** Nodes that reach nobody and are reached by nobody. */
  readonly nodes?: readonly string[]
  /** LANs that are cut off from the outside, or lose packets. */
  readonly lans?: readonly string[]
  /** Servers that cannot be used. */
  readonly relays?: readonly string[]
  /** Nodes whose agent becomes another process. */
  readonly restarted?: readonly string[]
  /** Packets are lost, or connections are cut, but what waits for it gets through. */
  readonly isSoft?: boolean
}

/** Which LAN each node is in; none in the cloud. */
export interface Places {
  readonly lanOf: Readonly<Record<string, string | undefined>>
  readonly relays: readonly string[]
}

export class Timeline {
  readonly #places: Places
  readonly #disturbances: Disturbance[] = []
  /** Nodes that need a relay even for their neighbours, since when. */
  readonly #relayed: { readonly node: string; readonly from: number; to: number }[] = []

  constructor(places: Places) {
    this.#places = places
  }

  get disturbances(): readonly Disturbance[] {
    return this.#disturbances
  }

  begin(disturbance: Omit<Disturbance, 'from' | 'to'>): { end(): void } {
    const begun: Disturbance = { ...disturbance, from: Date.now(), to: undefined }
    this.#disturbances.push(begun)
    return {
      end() {
        begun.to ??= Date.now()
      },
    }
  }

  /** From now on the node takes relayed paths alone, or does not any more. */
  relayOnly(node: string, isOn: boolean): void {
    for (const each of this.#relayed) if (each.node === node) each.to = Math.min(each.to, Date.now())
    if (isOn) this.#relayed.push({ node, from: Date.now(), to: Number.POSITIVE_INFINITY })
  }

  /** Something that is over at once. */
  mark(disturbance: Omit<Disturbance, 'from' | 'to'>): void {
    this.begin(disturbance).end()
  }

  /** The parts of a span in which the two nodes had no way to each other, or only a bad one. */
  troubles(pair: readonly [string, string], from: number, to: number, withSoft: boolean): [number, number][] {
    const spans: [number, number][] = []
    const during = (each: Disturbance) => each.from <= to && (each.to ?? Number.POSITIVE_INFINITY) >= from
    const active = this.#disturbances.filter(during)
    for (const each of active) {
      if (each.isSoft === true && !withSoft) continue
      if (this.#hits(each, pair)) spans.push([each.from, each.to ?? Number.POSITIVE_INFINITY])
    }
    spans.push(...this.#withoutRelays(pair, active, from))
    return merged(spans)
  }

  /** The longest part of a span without trouble; `settleMs` after each trouble count as trouble. */
  longestClear(pair: readonly [string, string], from: number, to: number, settleMs: number): number {
    let at = from
    let longest = 0
    for (const [start, end] of this.troubles(pair, from - settleMs, to, true)) {
      longest = Math.max(longest, Math.min(start, to) - at)
      at = Math.max(at, end + settleMs)
    }
    return Math.max(longest, to - at)
  }

  /** The longest time that they were without a way to each other, up to a moment. */
  longestAway(pair: readonly [string, string], from: number, to: number, settleMs: number): number {
    const spans = merged(
      this.troubles(pair, from, to, false).map(([start, end]): [number, number] => [start, end + settleMs]),
    )
    return Math.max(0, ...spans.map(([start, end]) => Math.min(end, to) - start))
  }

  /** Whether the agent of one of them became another process. */
  wasRestarted(nodes: readonly string[], from: number, to: number): boolean {
    return this.#disturbances.some(
      (each) =>
        each.restarted?.some((node) => nodes.includes(node)) === true &&
        each.from <= to &&
        (each.to ?? Number.POSITIVE_INFINITY) >= from,
    )
  }

  /** What was going on then. */
  describe(from: number, to: number): string {
    const near = this.#disturbances.filter((each) => each.from <= to && (each.to ?? to) >= from)
    return near
      .map(({ what, from: start, to: end }) => `${what} [${clock(start)}..${end === undefined ? '' : clock(end)}]`)
      .join('; ')
  }

  #needsRelay([a, b]: readonly [string, string], atMs: number): boolean {
    return this.#relayed.some(({ node, from, to }) => (node === a || node === b) && from <= atMs && to >= atMs)
  }

  #hits(each: Disturbance, pair: readonly [string, string]): boolean {
    const [a, b] = pair
    if (each.nodes?.some((node) => node === a || node === b) === true) return true
    const [lanA, lanB] = [this.#places.lanOf[a], this.#places.lanOf[b]]
    const isApart = lanA !== lanB || this.#needsRelay(pair, each.from) || this.#needsRelay(pair, each.to ?? Date.now())
    return isApart && each.lans?.some((lan) => lan === lanA || lan === lanB) === true
  }

  /** When nobody could relay for two nodes of different LANs. */
  #withoutRelays(pair: readonly [string, string], active: readonly Disturbance[], atMs: number): [number, number][] {
    const { lanOf, relays } = this.#places
    const [a, b] = pair
    const isRelayed = this.#needsRelay(pair, atMs)
    if (!isRelayed && (lanOf[a] === lanOf[b] || lanOf[a] === undefined || lanOf[b] === undefined)) return []
    const away = relays.map((relay) =>
      merged(
        active
          .filter((each) => each.relays?.includes(relay) === true)
          .map((each): [number, number] => [each.from, each.to ?? Number.POSITIVE_INFINITY]),
      ),
    )
    return away.reduce((all, next) =>
      all.flatMap(([start, end]) =>
        next
          .map(([from, to]): [number, number] => [Math.max(start, from), Math.min(end, to)])
          .filter(([from, to]) => from < to),
      ),
    )
  }
}

export function clock(ms: number): string {
  return new Date(ms).toISOString().slice(11, 23)
}

function merged(spans: readonly [number, number][]): [number, number][] {
  const result: [number, number][] = []
  for (const [from, to] of [...spans].sort(([a], [b]) => a - b)) {
    const last = result.at(-1)
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to)
    else result.push([from, to])
  }
  return result
}

import type { SocketAddress } from '../net/index.ts'
import type { Logger } from '../observability/index.ts'
import { backoffDelayMs, sleep, type TaskGroup } from '../runtime/index.ts'
import { textOf } from './resolv-conf.ts'

/** What a probe of a resolver showed. */
export type ProbeResult = { readonly kind: 'answers'; readonly tookMs: number } | { readonly kind: 'silent' | 'loops' }

/** Where resolvers come from and which of them are ourselves. */
export interface UpstreamsOptions {
  /** The resolvers as they are known now, in the order of preference. */
  readonly servers: () => Promise<readonly SocketAddress[]>
  /** Which names they are for, in logs: `all names`, `names below corp.example`. */
  readonly purpose: string
  /** True for an address at which this very server answers: asking it would go round in circles. */
  readonly isOwn: (server: SocketAddress) => boolean
  readonly probe: (server: SocketAddress, signal: AbortSignal) => Promise<ProbeResult>
  readonly tasks: TaskGroup
  readonly logger: Logger
  /** Is told when other resolvers are in use than before. */
  readonly onChange: () => void
  /** How long to wait before the next probe of one that does not answer; 1 to 30 seconds unless said. */
  readonly probeBackoff?: { readonly firstMs: number; readonly maxMs: number }
}

/** What is known of one resolver. */
interface Upstream {
  readonly server: SocketAddress
  /** `new` until a probe or an answer says more; `dead` ones are asked last, `looping` ones never. */
  state: 'new' | 'up' | 'dead' | 'looping'
  /** Mean time to an answer; undefined until the first one. */
  tookMs: number | undefined
  failuresInRow: number
  isProbed: boolean
}

const defaultBackoff = { firstMs: 1000, maxMs: 30_000 }

/** One lost datagram says nothing; two in a row do. */
const failuresUntilDead = 2

/** The resolvers to ask, the fastest first. Those that are dead or lead back here are probed until they are well. */
export class Upstreams {
  readonly #options: UpstreamsOptions
  #known: readonly Upstream[] = []
  #shown: string | undefined

  constructor(options: UpstreamsOptions) {
    this.#options = options
  }

  /** The usable resolvers, best first. A list that changed since the last call begins anew. */
  async inOrder(): Promise<readonly SocketAddress[]> {
    const servers = await this.#options.servers()
    this.#adopt(servers)
    const usable = this.#known.filter(({ state }) => state !== 'looping')
    // The sort is stable, so resolvers of which nothing is known keep the order that somebody chose for them.
    return usable.toSorted((left, right) => rankOf(left) - rankOf(right)).map(({ server }) => server)
  }

  /** True when there is none that answers. */
  get isAllDead(): boolean {
    return this.#known.every(({ state }) => state === 'dead' || state === 'looping')
  }

  /** How long the server usually takes; undefined while that is not known. */
  usualMsOf(server: SocketAddress): number | undefined {
    return this.#find(server)?.tookMs
  }

  /** The server answered, after that many milliseconds. */
  answered(server: SocketAddress, tookMs: number): void {
    const upstream = this.#find(server)
    if (upstream === undefined || upstream.state === 'looping') return
    upstream.state = 'up'
    upstream.failuresInRow = 0
    upstream.tookMs = upstream.tookMs === undefined ? tookMs : upstream.tookMs * 0.75 + tookMs * 0.25
  }

  /** The server did not answer; `isCertain` when it said so itself, by a refused connection. */
  failed(server: SocketAddress, isCertain: boolean): void {
    const upstream = this.#find(server)
    if (upstream === undefined || upstream.state === 'looping') return
    upstream.failuresInRow++
    if (!isCertain && upstream.failuresInRow < failuresUntilDead) return
    if (upstream.state !== 'dead') {
      this.#options.logger.info({ address: textOf(server) }, 'an upstream resolver does not answer; it is probed')
    }
    upstream.state = 'dead'
    this.#probe(upstream)
  }

  /** The resolvers in use, as text, for `edgemesh status`. */
  get inUse(): readonly string[] {
    return this.#known.filter(({ state }) => state !== 'looping').map(({ server }) => textOf(server))
  }

  #find(server: SocketAddress): Upstream | undefined {
    const text = textOf(server)
    return this.#known.find((upstream) => textOf(upstream.server) === text)
  }

  #adopt(servers: readonly SocketAddress[]): void {
    const usable = servers.filter((server) => !this.#options.isOwn(server))
    const text = usable.map(textOf).join(' ')
    if (text === this.#shown) return
    const isFirst = this.#shown === undefined
    this.#shown = text
    const before = new Map(this.#known.map((upstream) => [textOf(upstream.server), upstream]))
    this.#known = usable.map((server) => before.get(textOf(server)) ?? newUpstream(server))
    if (!isFirst) this.#options.onChange()
    this.#report(text, servers.length)
    for (const upstream of this.#known) if (upstream.state === 'new') this.#probe(upstream)
  }

  #report(text: string, knownCount: number): void {
    const { logger, purpose } = this.#options
    if (text !== '') {
      logger.info({ address: text }, `${purpose} are forwarded`)
      return
    }
    const reason = knownCount === 0 ? 'no name server is configured' : 'every configured name server is this one'
    const remedy = 'List resolvers in modules.edgeDNS.upstreamServers'
    logger.warn({ reason, remedy }, `${purpose} cannot be resolved`)
  }

  /** Probes until the resolver is well or no longer in use. */
  #probe(upstream: Upstream): void {
    if (upstream.isProbed) return
    upstream.isProbed = true
    this.#options.tasks.run('probe of an upstream resolver', async (signal) => {
      try {
        await this.#probeUntilWell(upstream, signal)
      } finally {
        upstream.isProbed = false
      }
    })
  }

  async #probeUntilWell(upstream: Upstream, signal: AbortSignal): Promise<void> {
    const backoff = { ...defaultBackoff, ...this.#options.probeBackoff, jitter: 0.2 }
    for (let attempt = 1; this.#known.includes(upstream); attempt++) {
      const result = await this.#options.probe(upstream.server, signal)
      signal.throwIfAborted()
      if (result.kind === 'answers') {
        this.#revive(upstream)
        this.answered(upstream.server, result.tookMs)
        return
      }
      if (result.kind === 'loops') this.#drop(upstream)
      else if (upstream.state === 'new') upstream.state = 'dead'
      await sleep(backoffDelayMs(backoff, attempt, Math.random), signal)
    }
  }

  #revive(upstream: Upstream): void {
    if (upstream.state === 'looping' || upstream.state === 'dead') {
      this.#options.logger.info({ address: textOf(upstream.server) }, 'an upstream resolver answers again')
    }
    upstream.state = 'up'
  }

  #drop(upstream: Upstream): void {
    if (upstream.state === 'looping') return
    upstream.state = 'looping'
    const remedy = "List other resolvers in modules.edgeDNS.upstreamServers, or take this node's DNS out of that one's"
    const fields = { address: textOf(upstream.server), reason: 'a question sent there came back here', remedy }
    this.#options.logger.warn(fields, 'an upstream resolver leads back to this server and is not asked')
  }
}

function newUpstream(server: SocketAddress): Upstream {
  return { server, state: 'new', tookMs: undefined, failuresInRow: 0, isProbed: false }
}

/** Small is good. Times that differ by little are no reason to leave the order of preference. */
function rankOf({ state, tookMs }: Upstream): number {
  if (state === 'dead') return Number.POSITIVE_INFINITY
  return tookMs === undefined ? 0 : Math.floor(Math.log2(Math.max(1, tookMs / 10)))
}

import { randomBytes, randomInt } from 'node:crypto'
import { exchangeDatagram, exchangeMessage, type SocketAddress } from '../net/index.ts'
import { flag } from './constants.ts'
import { answersQuery, type ForwardedResponse, parseForwarded, renderUpstreamQuery } from './forwarded-response.ts'
import { type Query, questionOf } from './query.ts'
import type { ProbeResult } from './upstreams.ts'

/** The way a client came, which is also the way its question is passed on. */
export type Transport = 'udp' | 'tcp'

/** Limits of one exchange. */
export interface ExchangeLimits {
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** Asks one resolver, under an id and from a port that nobody can guess; a cut answer is fetched again over TCP. */
export async function askUpstream(
  server: SocketAddress,
  query: Query,
  { transport, ...limits }: ExchangeLimits & { readonly transport: Transport },
): Promise<ForwardedResponse> {
  if (transport === 'tcp') return askOver(exchangeMessage, server, query, limits)
  const response = await askOver(exchangeDatagram, server, query, limits)
  if (!response.isTruncated) return response
  // Some answer part is better than none where TCP to resolvers is blocked.
  return askOver(exchangeMessage, server, query, limits).catch(() => response)
}

async function askOver(
  exchange: typeof exchangeDatagram,
  server: SocketAddress,
  query: Query,
  limits: ExchangeLimits,
): Promise<ForwardedResponse> {
  const id = randomInt(0x10000)
  let response: ForwardedResponse | undefined
  await exchange(server, renderUpstreamQuery(query, id), {
    ...limits,
    accept(message) {
      response = answersQuery(message, query, id) ? parseForwarded(message, query) : undefined
      return response !== undefined
    },
  })
  if (response === undefined) throw new Error('the exchange ended without an accepted answer')
  return response
}

// Resolvers answer names below .invalid or .test themselves; one that forwards passes this one on.
const probeDomain = 'edgemesh-loop-probe.internal'

/** Finds resolvers that lead back to this server: asks them for a random name and looks whether it comes here. */
export class LoopProbe {
  readonly #underWay = new Map<string, { isSeen: boolean }>()

  /** Asks the resolver for a random name; any answer shows that it is there. */
  async probe(server: SocketAddress, limits: ExchangeLimits): Promise<ProbeResult> {
    const name = `${randomBytes(8).toString('hex')}.${probeDomain}`
    const watched = { isSeen: false }
    this.#underWay.set(name, watched)
    const began = performance.now()
    try {
      const query: Query = { id: 0, flags: flag.recursionDesired, ...questionOf(name, 1), edns: undefined }
      await askUpstream(server, query, { ...limits, transport: 'udp' })
      return watched.isSeen ? { kind: 'loops' } : { kind: 'answers', tookMs: performance.now() - began }
    } catch {
      return { kind: watched.isSeen ? 'loops' : 'silent' }
    } finally {
      this.#underWay.delete(name)
    }
  }

  /** True for a question of our own that came back; to be told that the name does not exist. */
  isOwnQuestion({ name }: Pick<Query, 'name'>): boolean {
    const watched = name.endsWith(probeDomain) ? this.#underWay.get(name) : undefined
    if (watched !== undefined) watched.isSeen = true
    return watched !== undefined
  }
}

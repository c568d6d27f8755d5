import { randomBytes } from 'node:crypto'
import type { ByteStream, SocketAddress } from '../../net/index.ts'
import { sleep } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import { type Appearance, hindranceOf } from './mapping.ts'
import { answerSchema, type PunchOffer, punchFrameLimitBytes, stepSchema, tokenBytes } from './punch-messages.ts'

/** What both ends know at the moment at which they dial. */
export interface Agreement {
  readonly token: string
  /** Where the peer may be. */
  readonly candidates: readonly SocketAddress[]
  /** What the link is called. */
  readonly path: 'direct' | 'punched'
}

/** Agrees with the peer as the lower identity; resolves at the moment to dial, rejects with the reason not to. */
export async function offerMeeting(stream: ByteStream, seen: Appearance, signal: AbortSignal): Promise<Agreement> {
  const token = randomBytes(tokenBytes).toString('base64url')
  await writeFrame(stream, { type: 'punch', token, seen }, signal)
  const answer = answerSchema.parse(await readFrame(stream, punchFrameLimitBytes, signal))
  if ('error' in answer) throw new Error(`the other side: ${answer.error}`)
  const hindrance = hindranceOf(seen.mapping, answer.seen.mapping)
  if (hindrance !== undefined) throw new Error(hindrance)
  const pingedAt = performance.now()
  await writeFrame(stream, { type: 'ping' }, signal)
  await readStep(stream, 'pong', signal)
  const roundTripMs = performance.now() - pingedAt
  await writeFrame(stream, { type: 'go' }, signal)
  await sleep(roundTripMs / 2, signal)
  return { token, candidates: answer.seen.candidates, path: pathOf(seen, answer.seen) }
}

/**
 * The same as the higher identity, once the offer has come; `seen` may be the reason why that is not known. Resolves with the
 * reason not to dial, which the other end knows as well once it has read what was written.
 */
export async function takeMeeting(
  stream: ByteStream,
  offer: PunchOffer,
  seen: Appearance | string,
  signal: AbortSignal,
): Promise<Agreement | string> {
  if (typeof seen === 'string') {
    await writeFrame(stream, { error: seen.slice(0, 1024) }, signal)
    return seen
  }
  await writeFrame(stream, { seen }, signal)
  const hindrance = hindranceOf(seen.mapping, offer.seen.mapping)
  if (hindrance !== undefined) return hindrance
  await readStep(stream, 'ping', signal)
  await writeFrame(stream, { type: 'pong' }, signal)
  await readStep(stream, 'go', signal)
  return { token: offer.token, candidates: offer.seen.candidates, path: pathOf(seen, offer.seen) }
}

function pathOf(here: Appearance, there: Appearance): Agreement['path'] {
  return here.mapping === 'open' || there.mapping === 'open' ? 'direct' : 'punched'
}

async function readStep(stream: ByteStream, type: 'ping' | 'pong' | 'go', signal: AbortSignal): Promise<void> {
  const step = stepSchema.parse(await readFrame(stream, punchFrameLimitBytes, signal))
  if (step.type !== type) throw new Error(`expected ${type}, not ${step.type}`)
}

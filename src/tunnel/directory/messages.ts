import * as z from 'zod'
import { maxEncodedRecordLength } from '../records/name-record.ts'

/*
 *  agent                              server
 *    | -- hello record, known ---------> |   or refused: the name belongs to another identity
 *    | <- presence connected (all) ----- |
 *    | <- records (those not known) ---- |
 *    | -- record (own, when changed) --> |
 *    | <- records, presence up/down ---- |   as other agents come, change and go
 */

/** The protocol between agents and servers. */
export const directoryProtocol = '/edgemesh/directory/1.0.0'

/** Frames are bounded so that a member cannot make us allocate more. */
export const directoryFrameLimitBytes = 1024 * 1024

/** Records in one frame: with records of the longest kind it stays below the limit. */
export const recordsPerFrame = 64

/** Names in one presence frame. */
export const namesPerFrame = 2000

const record = z.string().max(maxEncodedRecordLength)
const names = z.array(z.string().max(253)).max(namesPerFrame)

const agentMessage = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('hello'),
    record,
    /** What the agent knows already: name to sequence. */
    known: z.record(z.string().max(253), z.int().min(0)),
  }),
  z.strictObject({ type: z.literal('record'), record }),
])

const serverMessage = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('records'), records: z.array(record).max(recordsPerFrame) }),
  /** `reset` begins a complete list. */
  z.strictObject({ type: z.literal('presence'), reset: z.boolean(), up: names, down: names }),
  /** All nodes that the server does not relay for now, and why. */
  z.strictObject({ type: z.literal('capped'), nodes: z.record(z.string().max(253), z.string().max(512)) }),
  z.strictObject({ type: z.literal('refused'), reason: z.string().max(1024) }),
])

/** What an agent says. */
export type AgentMessage = z.output<typeof agentMessage>

/** What a server says. */
export type ServerMessage = z.output<typeof serverMessage>

/** Checks a frame from an agent; throws when it is none of the messages. */
export function parseAgentMessage(frame: unknown): AgentMessage {
  return agentMessage.parse(frame)
}

/** Checks a frame from a server; throws when it is none of the messages. */
export function parseServerMessage(frame: unknown): ServerMessage {
  return serverMessage.parse(frame)
}

/** The list in pieces of at most `size`. */
export function inPieces<T>(list: readonly T[], size: number): T[][] {
  const pieces: T[][] = []
  for (let start = 0; start < list.length; start += size) pieces.push(list.slice(start, start + size))
  return pieces
}

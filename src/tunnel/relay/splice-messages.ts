import * as z from 'zod'

/*
 *  asker                      server                       peer
 *    | -- ask {peer} ---------> | -- offer {from, token} ---> |     both over libp2p
 *    | <- token --------------- |                             |
 *    | == TCP: magic, token ==> | <== TCP: magic, token ===== |     joined byte for byte; TLS runs inside
 */

/** An agent asks its server to be joined to a peer. */
export const spliceAskProtocol = '/edgemesh/splice/1.0.0'

/** A server tells an agent that a peer wants to be joined to it. */
export const spliceOfferProtocol = '/edgemesh/splice-offer/1.0.0'

/** A connection that is to be joined begins with this, then its token. */
export const spliceMagic = 'EMSPLICE'

/** Length of a token in bytes. */
export const tokenBytes = 32

/** Longest message of either protocol. */
export const spliceFrameLimitBytes = 2048

const peerId = z.string().min(1).max(128)
const token = z.base64url().length(43)
const text = z.string().max(1024)

/** What an agent asks. */
export const askSchema = z.object({ peer: peerId })

/** What it is answered; the code tells a refusal that will not change. */
export const askAnswerSchema = z.union([
  z.object({ token }),
  z.object({ error: text, code: z.literal('unsupported').optional().catch(undefined) }),
])

/** What the peer is offered. */
export const offerSchema = z.object({ from: peerId, token })

/** What it answers. */
export const offerAnswerSchema = z.union([z.object({ ok: z.literal(true) }), z.object({ error: text })])

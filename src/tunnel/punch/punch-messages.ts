import * as z from 'zod'
import { linkKinds } from '../links/hello.ts'
import { mappings } from './mapping.ts'

/*
 *  lower identity                         higher identity
 *    | <- want, kind of link ----------------- |     a stream of its own; only when the higher one has traffic
 *    | -- punch token, how we are seen ------> |
 *    | <- how we are seen -------------------- |     or an error
 *    | -- ping ------------------------------> |
 *    | <- pong ------------------------------- |     measures the round trip
 *    | -- go --------------------------------> |
 *   half a round trip later                 at once
 *    | == dial <===========================> dial ==    from and to the listening ports, for 5 s; for links after the
 *    |                                         |        first one, the lower one has a port made for it alone
 *    | == magic, token <=====> magic, token == |     on the TCP connection; then TLS, the lower one is its client
 */

/** Peers agree over a relayed connection to dial each other at the same moment. */
export const punchProtocol = '/edgemesh/punch/1.0.0'

/** What both ends of a punched connection say first, followed by the token. */
export const punchMagic = 'EDGEPNCH'

/** Length of a token in bytes. */
export const tokenBytes = 16

/** Longest message. */
export const punchFrameLimitBytes = 2048

const appearance = z.object({
  mapping: z.enum(mappings),
  candidates: z
    .array(z.object({ address: z.ipv4(), port: z.int().min(1).max(65535) }))
    .min(1)
    .max(4),
})

const offerSchema = z.object({ type: z.literal('punch'), token: z.base64url().length(22), seen: appearance })

/** What the lower identity begins with. */
export type PunchOffer = z.infer<typeof offerSchema>

/** The first message on a stream. */
export const openingSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('want'), kind: z.enum(linkKinds).default('shared') }),
  offerSchema,
])

/** What a `punch` is answered. */
export const answerSchema = z.union([z.object({ seen: appearance }), z.object({ error: z.string().max(1024) })])

/** The messages after the answer, in this order. */
export const stepSchema = z.object({ type: z.enum(['ping', 'pong', 'go']) })

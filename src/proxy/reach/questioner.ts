import { type ByteStream, exchangeDatagram } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import { type KeptAgreement, proposeTerms } from './agreement.ts'
import { encodeQuestion, isAnswerTo, newNonce, type Question, questionPort } from './question.ts'

/** What asking needs. */
export interface QuestionerOptions {
  /** Opens a flow through the tunnel to the part of a node that answers; rejects when there is none. */
  readonly openFlow: (nodeName: string, signal: AbortSignal) => Promise<ByteStream>
  /** A monotonic clock. */
  readonly nowMs: () => number
  /** Replaced in tests. */
  readonly exchange?: typeof exchangeDatagram
}

/** Asks nodes, at addresses of their endpoints, whether they are who is reached there. */
export interface Questioner {
  /**
   * Asks over the route that the kernel takes from this source address, or from the one that it chooses. Gives the
   * reason why the address leads elsewhere, or undefined when it leads to the node.
   */
  ask(place: AskedPlace, source: string | undefined, signal: AbortSignal): Promise<string | undefined>
}

/** An address as an address of a node. */
export interface AskedPlace {
  readonly nodeName: string
  readonly address: string
}

const agreeTimeoutMs = 5_000
/** How long each datagram is waited for. */
const waitsMs = [150, 250, 400]

/** Makes a questioner; keys come with the first questions. */
export function createQuestioner(options: QuestionerOptions): Questioner {
  const send = options.exchange ?? exchangeDatagram
  const agreements = new Map<string, { readonly terms: Promise<KeptAgreement>; renewAtMs: number }>()

  const agree = async (nodeName: string, signal: AbortSignal): Promise<KeptAgreement> => {
    using limit = new TimeLimit(agreeTimeoutMs, signal)
    return await proposeTerms(await options.openFlow(nodeName, limit.signal), limit.signal)
  }
  const agreementWith = async (nodeName: string, signal: AbortSignal): Promise<KeptAgreement> => {
    const known = agreements.get(nodeName)
    if (known !== undefined && known.renewAtMs > options.nowMs()) return await known.terms
    const begun = { terms: agree(nodeName, signal), renewAtMs: Number.POSITIVE_INFINITY }
    agreements.set(nodeName, begun)
    try {
      const terms = await begun.terms
      begun.renewAtMs = options.nowMs() + terms.forMs / 2
      return terms
    } catch (error) {
      agreements.delete(nodeName)
      throw error
    }
  }

  return {
    async ask({ nodeName, address }, source, signal) {
      const agreement = await agreementWith(nodeName, signal).catch((error: unknown) => describeError(error))
      signal.throwIfAborted()
      if (typeof agreement === 'string') return `cannot ask it: ${agreement}`
      const question: Question = { agreement, nonce: newNonce(), address }
      const failure = await exchange(question, { source, send }, signal)
      // A node that was started again has forgotten the key.
      if (failure !== undefined) agreements.delete(nodeName)
      return failure
    },
  }
}

/** Each datagram is a flow of its own: what translated an earlier one may not translate a connection that begins now. */
async function exchange(
  question: Question,
  { source, send }: { readonly source: string | undefined; readonly send: typeof exchangeDatagram },
  signal: AbortSignal,
): Promise<string | undefined> {
  const from = source === undefined ? '' : ` from ${source}`
  const target = { address: question.address, port: questionPort }
  let failure = ''
  for (const timeoutMs of waitsMs) {
    try {
      const accept = (message: Buffer) => isAnswerTo(question, message)
      await send(target, encodeQuestion(question), { timeoutMs, signal, source, accept })
      return undefined
    } catch (error) {
      signal.throwIfAborted()
      failure = `it does not answer at ${question.address}${from}: ${describeError(error)}`
      if ((error as NodeJS.ErrnoException).code !== 'ETIMEDOUT') break
    }
  }
  return failure
}

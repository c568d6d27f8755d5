import { type ByteStream, openDatagramSocket, resetStream, type SocketAddress } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { readTerms, termsSeconds, writeReply } from './agreement.ts'
import { type Agreement, encodeAnswer, readQuestion } from './question.ts'

/** What answering needs. */
export interface ReachAnswererOptions {
  /** An address that only translation leads to. */
  readonly address: string
  /** Whether an endpoint on this node has the address. */
  readonly isHere: (address: string) => boolean
  /** Called when somebody may ask from now on, or nobody any more. */
  readonly onChange: () => void
  readonly logger: Logger
  /** A monotonic clock. */
  readonly nowMs: () => number
}

/** Answers peers that ask, at addresses of endpoints on this node, whether it is really this node they reach. */
export interface ReachAnswerer extends AsyncDisposable {
  /** Where questions must be brought. */
  readonly at: SocketAddress
  /** True while a peer has agreed with us on a key. */
  readonly isAsked: boolean
  /** Takes ownership of a flow by which a peer, proven by the tunnel, brings its key. */
  agree(stream: ByteStream): void
}

const agreeTimeoutMs = 5_000
/** More peers than any LAN has; the key that was not used for longest gives way. */
const mostKeys = 1_024

/** Resolves when questions can be answered. */
export async function startReachAnswerer(options: ReachAnswererOptions): Promise<ReachAnswerer> {
  const { address, logger, isHere } = options
  const keys = new Keys(options)
  const socket = await openDatagramSocket({
    address,
    port: 0,
    onMessage(message, from) {
      const question = readQuestion(message, (id) => keys.find(id))
      if (question === undefined) return
      keys.use(question.agreement)
      if (isHere(question.address)) socket.send(encodeAnswer(question), from)
    },
    onError: (error) => logger.debug({ error }, 'the socket that answers questions reported an error'),
  })
  const tasks = new TaskGroup((task, error) => logger.debug({ task, error }, 'no key was agreed on'))
  return {
    at: { address, port: socket.port },
    get isAsked() {
      return keys.areAny
    },
    agree(stream) {
      tasks.run('agreement', async (stopping) => {
        using limit = new TimeLimit(agreeTimeoutMs, stopping)
        try {
          keys.add(await readTerms(stream, limit.signal))
          await writeReply(stream)
        } catch (error) {
          logger.debug({ reason: describeError(error) }, 'no key was agreed on')
          resetStream(stream, new Error('no key was agreed on', { cause: error }))
        }
      })
    },
    async [Symbol.asyncDispose]() {
      await tasks[Symbol.asyncDispose]()
      keys[Symbol.dispose]()
      await socket[Symbol.asyncDispose]()
    },
  }
}

/** Keys by id, each for as long as was agreed; those come first that were not used for longest. */
class Keys implements Disposable {
  readonly #options: Pick<ReachAnswererOptions, 'nowMs' | 'onChange'>
  readonly #keys = new Map<string, { readonly agreement: Agreement; readonly untilMs: number }>()
  #sweep: NodeJS.Timeout | undefined

  constructor(options: Pick<ReachAnswererOptions, 'nowMs' | 'onChange'>) {
    this.#options = options
  }

  get areAny(): boolean {
    return this.#keys.size > 0
  }

  find(id: string): Agreement | undefined {
    const found = this.#keys.get(id)
    return found === undefined || found.untilMs < this.#options.nowMs() ? undefined : found.agreement
  }

  use({ id: bytes }: Agreement): void {
    const id = bytes.toString('hex')
    const known = this.#keys.get(id)
    if (known === undefined) return
    this.#keys.delete(id)
    this.#keys.set(id, known)
  }

  add(agreement: Agreement): void {
    const id = agreement.id.toString('hex')
    this.#keys.delete(id)
    const [oldest] = this.#keys.keys()
    if (this.#keys.size >= mostKeys && oldest !== undefined) this.#keys.delete(oldest)
    this.#keys.set(id, { agreement, untilMs: this.#options.nowMs() + termsSeconds * 1_000 })
    if (this.#keys.size === 1) this.#options.onChange()
    this.#sweep ??= setInterval(() => this.#forgetOld(), 60_000).unref()
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweep)
  }

  #forgetOld(): void {
    for (const [id, { untilMs }] of this.#keys) if (untilMs < this.#options.nowMs()) this.#keys.delete(id)
    if (this.#keys.size > 0) return
    clearInterval(this.#sweep)
    this.#sweep = undefined
    this.#options.onChange()
  }
}

import { readFile, stat } from 'node:fs/promises'
import type { SocketAddress } from '../net/index.ts'
import { describeError, type Logger } from '../observability/index.ts'

const recheckMs = 1000

/** Where the file is and how often it may be looked at. */
export interface ResolvConfOptions {
  readonly path: string
  readonly logger: Logger
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
}

/** The name servers of the host's resolver file, which is read again when it changed. */
export class ResolvConf {
  readonly #options: ResolvConfOptions
  #servers: readonly SocketAddress[] = []
  #signature = ''
  #checkedAt = Number.NEGATIVE_INFINITY
  #refreshing: Promise<void> = Promise.resolve()

  constructor(options: ResolvConfOptions) {
    this.#options = options
  }

  /** Looks at the file once in a while; whoever asks meanwhile waits too, or the first would find no resolver. */
  async servers(): Promise<readonly SocketAddress[]> {
    const { now } = this.#options
    if (now() - this.#checkedAt >= recheckMs) {
      this.#checkedAt = now()
      this.#refreshing = this.#read()
    }
    await this.#refreshing
    return this.#servers
  }

  async #read(): Promise<void> {
    const { path, logger } = this.#options
    try {
      const { mtimeMs, size, ino, dev } = await stat(path)
      const signature = [mtimeMs, size, ino, dev].join(':')
      if (signature === this.#signature) return
      this.#servers = parseResolvConf(await readFile(path, 'utf8'))
      this.#signature = signature
    } catch (error) {
      if (this.#signature !== 'unreadable') {
        const fields = { file: path, reason: describeError(error) }
        logger.warn(fields, "the host's resolver file cannot be read; its last servers stay in use")
      }
      this.#signature = 'unreadable'
    }
  }
}

/** The name servers of a resolv.conf; other lines and malformed addresses are passed over, as libc does. */
export function parseResolvConf(text: string): readonly SocketAddress[] {
  return text.split('\n').flatMap((line) => {
    const address = /^\s*nameserver\s+([^\s#;]+)/.exec(line)?.[1]
    return address === undefined || !/^(\d+\.){3}\d+$|:/.test(address) ? [] : [{ address, port: 53 }]
  })
}

/** A configured server; the configuration was validated, so anything else is simply none. */
export function parseServer(text: string): readonly SocketAddress[] {
  const match = /^\[(.+)\](?::(\d+))?$/.exec(text) ?? /^([^:]+)(?::(\d+))?$/.exec(text) ?? /^(.+:.+)()$/.exec(text)
  const address = match?.[1]
  return address === undefined ? [] : [{ address, port: Number(match?.[2] || 53) }]
}

/** `address:port`, with brackets around IPv6. */
export function textOf({ address, port }: SocketAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

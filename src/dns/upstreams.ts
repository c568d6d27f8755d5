import { readFile, stat } from 'node:fs/promises'
import type { SocketAddress } from '../net/index.ts'
import { describeError, type Logger } from '../observability/index.ts'

/** Where resolvers come from and which of them are ourselves. */
export interface UpstreamsOptions {
  /** `IP`, `IP:port` or `[IPv6]:port`; when empty, the name servers of `resolvConf`. */
  readonly servers: readonly string[]
  readonly resolvConf: string
  /** True for an address at which this very server answers: asking it would go round in circles. */
  readonly isOwn: (server: SocketAddress) => boolean
  readonly logger: Logger
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
  /** Is told when other resolvers are in use than before. */
  readonly onChange: () => void
}

const recheckMs = 1000
const avoidMs = 10_000

/** The resolvers to ask, best first. */
export class Upstreams {
  readonly #options: UpstreamsOptions
  readonly #failedAt = new Map<string, number>()
  #fromFile: readonly SocketAddress[] = []
  #signature = ''
  #checkedAt = Number.NEGATIVE_INFINITY
  #refreshing: Promise<void> = Promise.resolve()
  #shown: string | undefined

  constructor(options: UpstreamsOptions) {
    this.#options = options
  }

  /** The usable resolvers: those that failed lately last, otherwise in their order. Reads the file when it changed. */
  async inOrder(): Promise<readonly SocketAddress[]> {
    await this.#refresh()
    const { servers, isOwn, now } = this.#options
    const known = servers.length > 0 ? servers.flatMap(parseServer) : this.#fromFile
    const usable = known.filter((server) => !isOwn(server))
    this.#show(known, usable)
    const isAvoided = (server: SocketAddress) => now() - (this.#failedAt.get(textOf(server)) ?? -avoidMs) < avoidMs
    return [...usable.filter((server) => !isAvoided(server)), ...usable.filter(isAvoided)]
  }

  /** Puts the server behind the others for a while. */
  failed(server: SocketAddress): void {
    this.#failedAt.set(textOf(server), this.#options.now())
  }

  /** Puts the server back in its place. */
  answered(server: SocketAddress): void {
    this.#failedAt.delete(textOf(server))
  }

  /** The resolvers in use, as text, for `edgemesh status`. */
  get inUse(): readonly string[] {
    return this.#shown === undefined || this.#shown === '' ? [] : this.#shown.split(' ')
  }

  /** Looks at the file once in a while; whoever asks meanwhile waits too, or the first would find no resolver. */
  async #refresh(): Promise<void> {
    const { servers, now } = this.#options
    if (servers.length > 0) return
    if (now() - this.#checkedAt >= recheckMs) {
      this.#checkedAt = now()
      this.#refreshing = this.#readFile()
    }
    await this.#refreshing
  }

  async #readFile(): Promise<void> {
    const { resolvConf } = this.#options
    try {
      const { mtimeMs, size, ino, dev } = await stat(resolvConf)
      const signature = [mtimeMs, size, ino, dev].join(':')
      if (signature === this.#signature) return
      this.#fromFile = parseResolvConf(await readFile(resolvConf, 'utf8'))
      this.#signature = signature
    } catch (error) {
      if (this.#signature !== 'unreadable') {
        const fields = { file: resolvConf, reason: describeError(error) }
        this.#options.logger.warn(fields, "the host's resolver file cannot be read; its last servers stay in use")
      }
      this.#signature = 'unreadable'
    }
  }

  #show(known: readonly SocketAddress[], usable: readonly SocketAddress[]): void {
    const text = usable.map(textOf).join(' ')
    if (text === this.#shown) return
    this.#shown = text
    this.#failedAt.clear()
    this.#options.onChange()
    if (usable.length > 0) {
      this.#options.logger.info({ address: text }, 'names outside the cluster are forwarded')
      return
    }
    const reason = known.length === 0 ? 'no name server is configured' : 'every configured name server is this one'
    const remedy = 'List resolvers in modules.edgeDNS.upstreamServers'
    this.#options.logger.warn({ reason, remedy }, 'names outside the cluster cannot be resolved')
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

function textOf({ address, port }: SocketAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

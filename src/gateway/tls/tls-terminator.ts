import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import type { ObjectKey, Secret } from '../../model/index.ts'
import type { TcpSocket } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import type { TerminationPlan } from '../routing/route-table.ts'
import { SecretError, serverCertificateOf } from './certificates.ts'
import { chooseCiphers } from './cipher-suites.ts'

/** A connection whose TLS ends here. */
export type TlsConnection = TLSSocket

/** Where Secrets are looked up and what one handshake may take. */
export interface TlsTerminatorOptions {
  readonly secrets: () => ReadonlyMap<ObjectKey, Secret>
  readonly handshakeTimeoutMs: number
}

interface Pending {
  readonly onSecure: (socket: TlsConnection) => void
  readonly onFailed: (error: Error) => void
}

interface TlsServer {
  readonly secret: Secret | undefined
  readonly caSecret: Secret | undefined
  readonly server: Server | undefined
  readonly problem: string | undefined
  readonly pending: Map<string, Pending>
}

/**
 * Ends TLS with the certificates of Secrets. A changed Secret is in force for the next handshake; connections that
 * stand are not touched.
 */
export class TlsTerminator {
  readonly #options: TlsTerminatorOptions
  readonly #servers = new Map<string, TlsServer>()

  constructor(options: TlsTerminatorOptions) {
    this.#options = options
  }

  /** Why a server cannot be used now; undefined when it can. */
  problemOf(plan: TerminationPlan, alpn: readonly string[]): string | undefined {
    return this.#serverOf(plan, alpn).problem
  }

  /** Takes over a connection whose ClientHello is still unread; rejects when the handshake fails. */
  handshake(socket: TcpSocket, plan: TerminationPlan, alpn: readonly string[]): Promise<TlsConnection> {
    const { server, problem, pending } = this.#serverOf(plan, alpn)
    if (server === undefined) return Promise.reject(new SecretError(problem ?? 'there is no certificate'))
    return new Promise((resolve, reject) => {
      const id = connectionIdOf(socket)
      const settle = (outcome: () => void) => {
        pending.delete(id)
        socket.off('close', onClosed)
        outcome()
      }
      const onClosed = () => settle(() => reject(new Error('the client went away during the handshake')))
      socket.once('close', onClosed)
      pending.set(id, {
        onSecure: (secured) => settle(() => resolve(secured)),
        onFailed: (error) => settle(() => reject(error)),
      })
      server.emit('connection', socket)
    })
  }

  /** Forgets what no plan needs any more. */
  keepOnly(plans: readonly { readonly plan: TerminationPlan; readonly alpn: readonly string[] }[]): void {
    const wanted = new Set(plans.map(({ plan, alpn }) => keyOfPlan(plan, alpn)))
    for (const key of this.#servers.keys()) if (!wanted.has(key)) this.#servers.delete(key)
  }

  #serverOf(plan: TerminationPlan, alpn: readonly string[]): TlsServer {
    const key = keyOfPlan(plan, alpn)
    const secrets = this.#options.secrets()
    const secret = secrets.get(plan.secret)
    const caSecret = secrets.get(`${plan.secret}-cacert`)
    const known = this.#servers.get(key)
    if (known !== undefined && known.secret === secret && known.caSecret === caSecret) return known
    const made = this.#create(plan, alpn, { secret, caSecret })
    // A Secret that is broken or gone for a moment takes nothing from those who have the last good one.
    const kept =
      made.server === undefined && known?.server !== undefined
        ? { ...known, secret, caSecret, problem: made.problem }
        : made
    this.#servers.set(key, kept)
    return kept
  }

  #create(plan: TerminationPlan, alpn: readonly string[], found: Pick<TlsServer, 'secret' | 'caSecret'>): TlsServer {
    const pending = new Map<string, Pending>()
    try {
      const options = this.#optionsOf(plan, alpn, found)
      return { ...found, server: listenTo(createServer(options), plan, pending), problem: undefined, pending }
    } catch (error) {
      const problem = error instanceof SecretError ? error.message : `Secret ${plan.secret}: ${describeError(error)}`
      return { ...found, server: undefined, problem, pending }
    }
  }

  #optionsOf(
    plan: TerminationPlan,
    alpn: readonly string[],
    found: Pick<TlsServer, 'secret' | 'caSecret'>,
  ): TlsOptions {
    const { cert, key, ca } = serverCertificateOf(plan.secret, found.secret, found.caSecret)
    const demand =
      plan.clientCertificate === 'as-secret' ? (ca === undefined ? 'none' : 'required') : plan.clientCertificate
    if (demand !== 'none' && ca === undefined) {
      throw new SecretError(
        `neither Secret ${plan.secret} nor ${plan.secret}-cacert has the ca.crt of client certificates`,
      )
    }
    const { ciphers } = chooseCiphers(plan.cipherSuites, plan.minVersion < 'TLSv1.2')
    return {
      cert,
      key,
      ...(demand !== 'none' && { ca, requestCert: true, rejectUnauthorized: demand === 'required' }),
      ...(ciphers !== undefined && { ciphers }),
      ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
      minVersion: plan.minVersion,
      maxVersion: plan.maxVersion,
      handshakeTimeout: this.#options.handshakeTimeoutMs,
      honorCipherOrder: true,
    }
  }
}

function listenTo(server: Server, plan: TerminationPlan, pending: Map<string, Pending>): Server {
  const onFailed = (error: Error, socket: TLSSocket) => pending.get(connectionIdOf(socket))?.onFailed(error)
  server.on('tlsClientError', onFailed)
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    const waiting = pending.get(connectionIdOf(socket))
    const refusal = refusalOf(socket, plan)
    if (waiting === undefined || refusal !== undefined) {
      socket.destroy()
      waiting?.onFailed(new Error(refusal ?? 'nobody waits for this connection'))
    } else waiting.onSecure(socket)
  })
  return server
}

/** OPTIONAL_MUTUAL means no certificate or a valid one, and names are asked only of those who have one. */
function refusalOf(socket: TLSSocket, { clientCertificate, subjectAltNames }: TerminationPlan): string | undefined {
  const { subjectaltname, raw } = socket.getPeerCertificate()
  if (raw === undefined) return undefined
  if (clientCertificate === 'optional' && !socket.authorized)
    return `the client's certificate is not valid: ${socket.authorizationError}`
  if (subjectAltNames.length === 0) return undefined
  const names = (subjectaltname ?? '').split(', ').map((entry) => entry.replace(/^(DNS|URI|IP Address|email):/, ''))
  return names.some((name) => subjectAltNames.includes(name))
    ? undefined
    : "the client's certificate has none of the wanted names"
}

/** Two connections that are open at a time differ in it, whichever of their layers is asked. */
function connectionIdOf(socket: TcpSocket | TLSSocket): string {
  return `${socket.remoteAddress}|${socket.remotePort}|${socket.localAddress}|${socket.localPort}`
}

function keyOfPlan(plan: TerminationPlan, alpn: readonly string[]): string {
  return JSON.stringify([plan, alpn])
}

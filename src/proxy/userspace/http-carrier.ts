import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { type ByteStream, resetStream } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import { dialFirstReachable, NoBackendError } from '../l4/dial-first-reachable.ts'
import type { HttpForward } from '../l7/decision.ts'
import { createHttpProxy, usualHttpLimits } from '../l7/http-proxy.ts'
import { readPreface } from '../l7/preface.ts'
import { requestKeyOf } from '../l7/request-key.ts'
import { createUpstreamPool, type HttpUpstream, type UpstreamPool } from '../l7/upstream-pool.ts'
import { type CarrierOptions, type ClientStream, carryConnection, recordFailure } from './connection-carrier.ts'
import type { BalancedRoute } from './route-table.ts'

/** Carries connections whose policy looks at HTTP requests, each of which is balanced by itself. */
export interface HttpCarrier extends Disposable {
  /** Resolves when the connection is closed. HTTP/2, which is not read, is carried as bytes. */
  carry(client: ClientStream, route: BalancedRoute): Promise<void>
  /** Ends connections after the requests that are under way. */
  drain(): void
}

/** Makes a carrier; disposal closes what it keeps open towards backends. */
export function createHttpCarrier(options: CarrierOptions): HttpCarrier {
  const pool = createUpstreamPool(options.dialer)
  const routes = new WeakMap<ByteStream, BalancedRoute>()
  const proxy = createHttpProxy({
    decide: (request) => {
      const route = routes.get(request.socket)
      if (route === undefined) throw new Error('Cannot balance a request of an unknown connection')
      return forwardOf(request, route, pool, options)
    },
    onFailure(request, error) {
      const route = routes.get(request.socket)
      if (error instanceof NoBackendError) options.metrics.refused('no-backend')
      options.warnOfReset(route?.id ?? '', describeError(error))
    },
  })
  return {
    async carry(client, route) {
      const closed = new Promise<void>((resolve) => client.once('close', () => resolve()))
      const preface = await prefaceInTime(client)
      if (preface === undefined) {
        endWithoutRequest(client)
        return await closed
      }
      if (preface.isHttp2) {
        client.unshift(preface.head)
        return await carryConnection(client, route, options)
      }
      routes.set(client, route)
      proxy.accept(client, preface.head)
      await closed
    },
    drain: () => proxy.drain(),
    [Symbol.dispose]() {
      proxy[Symbol.dispose]()
      pool[Symbol.dispose]()
    },
  }
}

async function prefaceInTime(client: ByteStream): ReturnType<typeof readPreface> {
  using limit = new TimeLimit(usualHttpLimits.headTimeoutMs)
  return await readPreface(client, limit.signal)
}

/** A client that ended gets an end; one that said nothing in time is told so. */
function endWithoutRequest(client: ByteStream): void {
  if (client.destroyed) return
  if (!client.readableEnded) client.write('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n')
  client.end(() => resetStream(client, new Error('no request came')))
}

function forwardOf(
  request: IncomingMessage,
  route: BalancedRoute,
  pool: UpstreamPool,
  options: CarrierOptions,
): HttpForward {
  const { key, setCookie } = requestKeyOf(route.policy.balancing, request, () => randomBytes(16).toString('hex'))
  const client = { address: request.socket.remoteAddress, key }
  let held: Disposable | undefined
  const dial = async (signal: AbortSignal): Promise<HttpUpstream> => {
    const { stream, backend } = await dialFirstReachable(
      {
        dialer: pool.dialer,
        balancer: route.balancer,
        client,
        policy: options.dialPolicyOf(route),
        onFailure: (failure) => recordFailure(failure, route, options),
      },
      signal,
    )
    held?.[Symbol.dispose]()
    held = route.balancer.hold(backend)
    return pool.upstreamOf(stream)
  }
  return {
    kind: 'forward',
    dial,
    onEnd: () => held?.[Symbol.dispose](),
    ...(setCookie === undefined
      ? {}
      : { responseHeaders: (_status, headers) => [...headers, 'Set-Cookie', setCookie] }),
  }
}

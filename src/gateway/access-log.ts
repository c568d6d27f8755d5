import type { GatewayModuleConfig } from './config.ts'
import type { ClientInfo } from './http/exchange.ts'
import type { RequestRecord } from './requests/request-handler.ts'
import type { StreamEnd } from './streams/carry-stream.ts'

/** Writes one JSON line for each request and connection that it is told of, or for a share of them. */
export interface AccessLog {
  request(record: RequestRecord): void
  stream(client: ClientInfo, route: string, end: StreamEnd, durationMs: number): void
}

/** Where lines go; the same text may be written much later. */
export type WriteLine = (line: string) => void

/** The log that the configuration asks for; undefined when it asks for none. */
export function createAccessLog(
  { mode, sampleRatio }: GatewayModuleConfig['accessLog'],
  write: WriteLine,
  random: () => number,
): AccessLog | undefined {
  if (mode === 'off') return undefined
  const isChosen = (isFailure: boolean) => mode === 'on' || isFailure || random() < sampleRatio
  return {
    request(record) {
      if (isChosen(record.status >= 500)) write(`${JSON.stringify(requestFields(record))}\n`)
    },
    stream(client, route, end, durationMs) {
      if (isChosen(end.problem !== undefined))
        write(`${JSON.stringify(streamFields(client, route, end, durationMs))}\n`)
    },
  }
}

function requestFields({ exchange, ...record }: RequestRecord) {
  const { request, client } = exchange
  return {
    time: new Date().toISOString(),
    kind: 'access',
    client: client.address,
    method: request.method,
    scheme: request.scheme,
    host: request.authority,
    path: request.target,
    protocol: `HTTP/${request.version}`,
    status: record.status,
    route: record.route,
    ...(record.backend !== undefined && { backend: record.backend }),
    bytesIn: record.bytesIn,
    bytesOut: record.bytesOut,
    durationMs: Math.round(record.durationMs * 1000) / 1000,
    tries: record.tries,
    ...(record.problem !== undefined && { problem: record.problem }),
    ...agentOf(request.headers.get('user-agent')),
  }
}

function agentOf(userAgent: string | undefined) {
  return userAgent === undefined ? {} : { userAgent }
}

function streamFields(client: ClientInfo, route: string, end: StreamEnd, durationMs: number) {
  return {
    time: new Date().toISOString(),
    kind: 'access',
    client: client.address,
    protocol: client.isTls ? 'TLS' : 'TCP',
    ...(client.serverName !== undefined && { host: client.serverName }),
    route,
    ...end,
    durationMs: Math.round(durationMs * 1000) / 1000,
  }
}

import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { text } from 'node:stream/consumers'
import type { Host } from '../lab/index.ts'

/** A request to a server of the control plane. */
export interface SentRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  /** File of the authority whose certificates count. */
  readonly caFile: string
  readonly ca: string
}

/** What came back. */
export interface Answer {
  readonly status: number
  readonly text: string
}

/** Sends a request from somewhere; rejects when there is no answer. */
export type Send = (request: SentRequest) => Promise<Answer>

const timeoutMs = 10_000

/** From this process. */
export const sendHere: Send = ({ method, url, headers, body, ca }) => {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const options = { method, headers, agent: false, timeout: timeoutMs } as const
  const sent = url.startsWith('https:') ? requestHttps(url, { ...options, ca }) : requestHttp(url, options)
  sent.on('response', (response) => {
    text(response).then((content) => resolve({ status: response.statusCode ?? 0, text: content }), reject)
  })
  sent.on('error', reject).on('timeout', () => sent.destroy(new Error(`${method} ${url}: no answer`)))
  sent.end(body)
  return promise
}

/**
 * What curl has to call itself: for its own name the API server prints its answers prettily, and this build of it,
 * made with a newer Go than it was written for, dies of that.
 */
export const curlUserAgent = 'edgemesh-test'

/** From a host of a lab, with curl. */
export function sendFrom(host: Host): Send {
  return async ({ method, url, headers, body, caFile }) => {
    const headerFlags = Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`])
    const bodyFlags = body === undefined ? [] : ['--data-binary', '@-']
    const flags = ['--silent', '--show-error', '--max-time', String(timeoutMs / 1000), '--cacert', caFile]
    const agent = ['--user-agent', curlUserAgent]
    const command = [
      'curl',
      ...flags,
      ...agent,
      '--request',
      method,
      ...headerFlags,
      ...bodyFlags,
      '--write-out',
      '\n%{http_code}',
      url,
    ]
    const { code, stdout, stderr } = await host.exec(command, { input: body ?? '', timeoutMs: timeoutMs + 2_000 })
    if (code !== 0) throw new Error(`${method} ${url} from ${host.name}: ${stderr}`)
    const end = stdout.lastIndexOf('\n')
    return { status: Number(stdout.slice(end + 1)), text: stdout.slice(0, end) }
  }
}

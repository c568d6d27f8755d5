import type { ObjectReport } from '../../model/index.ts'
import { withReport } from '../objects/report.ts'
import type { ApiClient, RequestTimeouts } from './api-client.ts'
import { ApiProtocolError } from './errors.ts'

const timeouts: RequestTimeouts = { connectMs: 10_000, answerMs: 15_000, idleMs: 15_000, totalMs: 30_000 }

/**
 * Writes our condition into the status of the object at a path. An object that changed meanwhile is left alone: the API
 * then answers 409. Rejects as `ApiClient.get` does, or with an `ApiProtocolError`.
 */
export async function writeReport(
  client: ApiClient,
  objectPath: string,
  report: ObjectReport,
  signal: AbortSignal,
): Promise<void> {
  const request = { path: `${objectPath}/status`, query: {}, timeouts }
  const object = parseJson(await bytesOf(client.get(request, signal)), request.path)
  const resourceVersion: unknown = Reflect.get(Object(Reflect.get(Object(object), 'metadata')), 'resourceVersion')
  const conditions = withReport(object, report, new Date())
  const patch = { metadata: { resourceVersion }, status: { conditions } }
  await bytesOf(client.get({ ...request, patch }, signal))
}

async function bytesOf(body: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(body))
}

function parseJson(bytes: Buffer, path: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new ApiProtocolError(`GET ${path}: the answer is no JSON`, { cause: error })
  }
}

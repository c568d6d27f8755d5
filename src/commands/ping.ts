import { setTimeout as delay } from 'node:timers/promises'
import { requestControl } from '../net/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import { answerTimeoutMs, runningControlSocketOf } from './control.ts'
import type { PingResult } from './ping-targets.ts'

const defaultCount = 5
const intervalMs = 1000

/**
 * Asks the running agent again and again how it reaches a node, or the nodes of a Service, and shows the path of each
 * probe; says when a node has become reachable directly. 1 when the last probe of any node has failed.
 */
export async function run(
  { arguments: [target = ''], options }: CommandInput,
  context: CommandContext,
): Promise<number> {
  const socket = runningControlSocketOf('agent', options, context)
  const count = countOf(options['count'])
  const lastPaths = new Map<string, string>()
  let results: readonly PingResult[] = []
  for (let probe = 0; probe < count && !context.signal.aborted; probe++) {
    if (probe > 0) await delay(intervalMs, undefined, { signal: context.signal }).catch(() => {})
    results = await ask(socket, target)
    for (const result of results) context.out(`${renderResult(result, lastPaths)}\n`)
  }
  return results.every((result) => !('error' in result)) ? 0 : 1
}

function countOf(option: unknown): number {
  const count = option === undefined ? defaultCount : Number(option)
  if (Number.isInteger(count) && count > 0) return count
  throw new Error(`Cannot send ${String(option)} probes: --count needs a whole number above 0`)
}

async function ask(socket: string, target: string): Promise<readonly PingResult[]> {
  const request = { method: 'GET', url: `/ping?target=${encodeURIComponent(target)}` } as const
  const { status, body } = await requestControl(socket, request, AbortSignal.timeout(answerTimeoutMs))
  if (status !== 200) throw new Error(`Cannot ping ${target}: ${body.trim() || `the agent answered ${status}`}`)
  return JSON.parse(body)
}

/** One line; notes the path, to tell of a change. */
function renderResult(result: PingResult, lastPaths: Map<string, string>): string {
  if ('error' in result) return `${result.node}: ${result.error}`
  const { node, path, carrier, roundTripMs } = result
  const before = lastPaths.get(node)
  lastPaths.set(node, path)
  const isNews = before?.startsWith('relayed') === true && !path.startsWith('relayed')
  const news = isNews ? ` (direct now; before ${before})` : ''
  const over = carrier === 'link' ? '' : ', no link yet'
  return `${node}: ${roundTripMs.toFixed(1)} ms, ${path}${over}${news}`
}

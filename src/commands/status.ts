import { requestControl } from '../net/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import { answerTimeoutMs, runningControlSocketOf } from './control.ts'
import { renderStatus, type StatusDocument } from './status-document.ts'

/** Shows the state of the agent or server that runs on this machine; 1 while it is not ready. */
export async function run({ arguments: [role], options }: CommandInput, context: CommandContext): Promise<number> {
  const socket = runningControlSocketOf(role, options, context)
  const request = { method: 'GET', url: '/status' } as const
  const { status, body } = await requestControl(socket, request, AbortSignal.timeout(answerTimeoutMs))
  if (status !== 200) throw new Error(`Cannot read the status: ${body.trim()}`)
  const document: StatusDocument = JSON.parse(body)
  context.out(options['json'] === true ? `${JSON.stringify(document, null, 2)}\n` : renderStatus(document))
  return document.waitingFor.length === 0 ? 0 : 1
}

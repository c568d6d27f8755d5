import { requestControl } from '../net/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import { answerTimeoutMs, runningControlSocketOf } from './control.ts'

/** Lets the running agent or server forget who a name belongs to, so that the next record of it is taken. */
export async function run(
  { arguments: [name = '', role], options }: CommandInput,
  context: CommandContext,
): Promise<number> {
  const socket = runningControlSocketOf(role, options, context)
  const request = { method: 'POST', url: `/unpin?name=${encodeURIComponent(name)}` } as const
  const { status } = await requestControl(socket, request, AbortSignal.timeout(answerTimeoutMs))
  if (status !== 200) throw new Error(`Cannot unpin ${name}: no node or server of this name is pinned here`)
  context.out(`${name} is forgotten; the next record of this name is taken\n`)
  return 0
}

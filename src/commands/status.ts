import { defaultConfigFileOf, isRole, openConfig, type Role } from '../config/index.ts'
import { requestControl } from '../net/index.ts'
import type { CommandContext, CommandInput } from './command.ts'
import { controlSocketOf } from './control.ts'
import { renderStatus, type StatusDocument } from './status-document.ts'

const answerTimeoutMs = 5_000

/** Shows the state of the agent or server that runs on this machine. */
export async function run({ arguments: [role], options }: CommandInput, context: CommandContext): Promise<number> {
  const status = await requestControl(
    controlSocketOf(runtimeDirOf(isRole(role) ? role : 'agent', options, context)),
    '/status',
    AbortSignal.timeout(answerTimeoutMs),
  )
  if (status.status !== 200) throw new Error(`Cannot read the status: ${status.body.trim()}`)
  const document = JSON.parse(status.body) as StatusDocument
  context.out(options['json'] === true ? `${JSON.stringify(document, null, 2)}\n` : renderStatus(document))
  return document.waitingFor.length === 0 ? 0 : 1
}

function runtimeDirOf(role: Role, options: CommandInput['options'], context: CommandContext): string {
  const file = String(options['config'] ?? defaultConfigFileOf(role))
  return openConfig(role, file, context.env).config.runtimeDir
}

import { isRole, jsonSchemaOf } from '../config/index.ts'
import type { CommandContext, CommandInput } from './command.ts'

/** Prints the JSON Schema of a role's configuration, for editors. */
export async function run({ arguments: [role] }: CommandInput, context: CommandContext): Promise<number> {
  context.out(`${JSON.stringify(jsonSchemaOf(isRole(role) ? role : 'agent'), null, 2)}\n`)
  return 0
}

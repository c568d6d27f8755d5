import { checkFiles, isRole, openConfig, roleOfFile } from '../config/index.ts'
import type { CommandContext, CommandInput } from './command.ts'

/** Says that a file is a valid configuration, with notices about keys that change nothing; throws what is wrong. */
export async function run({ arguments: [file = ''], options }: CommandInput, context: CommandContext): Promise<number> {
  const role = isRole(options['role']) ? options['role'] : roleOfFile(file)
  const loaded = openConfig(role, file, context.env)
  if (options['skipFiles'] !== true) checkFiles(loaded)
  context.out(`${[`${file}: ok`, ...loaded.notices].join('\n')}\n`)
  return 0
}

import process from 'node:process'
import type { CommandContext, CommandInput } from './command.ts'

/** Prints the licences that scripts/build.ts put into the executable. */
export async function run(_input: CommandInput, context: CommandContext): Promise<number> {
  const { getAsset, isSea } = process.getBuiltinModule('node:sea')
  if (!isSea()) throw new Error('Cannot print licences: they are in the built executable, not in the sources')
  context.out(getAsset('licenses.txt', 'utf8'))
  return 0
}

import type { Role } from '../config/index.ts'
import type { CommandContext, CommandEntry, CommandInput } from './command.ts'

/** Runs a long-running command until `context.signal` aborts; the number is the exit code. */
export type RunRole = (configFile: string, context: CommandContext) => Promise<number>

/** The table entry of a long-running command: all of them take the same options. */
export function roleCommand(role: Role, summary: string, load: () => Promise<{ readonly run: RunRole }>): CommandEntry {
  const file = `/etc/edgemesh/config/edgemesh-${role}.yaml`
  return {
    name: role,
    group: 'Run',
    summary,
    options: [
      { syntax: '--config <file>', description: `configuration file (default: ${file})` },
      { syntax: '--config-file <file>', description: 'the same, as the Go system calls it' },
      { syntax: '--minconfig', description: 'print the shortest useful configuration and exit' },
      { syntax: '--defaultconfig', description: 'print a configuration with every default and exit' },
    ],
    example: `edgemesh ${role} --config edgemesh-${role}.yaml`,
    files: [{ syntax: file, description: `configuration of edgemesh ${role}` }],
    load: async () => ({ run: (input, context) => runRole(role, load, input, context) }),
  }
}

async function runRole(
  role: Role,
  load: () => Promise<{ readonly run: RunRole }>,
  { options }: CommandInput,
  context: CommandContext,
): Promise<number> {
  const config = await import('../config/index.ts')
  if (options['minconfig'] === true || options['defaultconfig'] === true) {
    const render = options['minconfig'] === true ? config.renderMinimalConfig : config.renderDefaultConfig
    context.out(render(role))
    return 0
  }
  const file = String(options['config'] ?? options['configFile'] ?? config.defaultConfigFileOf(role))
  const { run } = await load()
  return run(file, context)
}

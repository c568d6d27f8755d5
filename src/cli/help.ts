import type { CommandEntry, ParameterHelp } from '../commands/index.ts'
import { exitCodeMeanings } from './exit-codes.ts'

/** What follows the list of commands on the help page: examples, files and exit codes. */
export function renderHelpTail(commands: readonly CommandEntry[]): string {
  const examples = commands.flatMap(({ example }) => (example === undefined ? [] : [`  ${example}`]))
  const files = [...commands.flatMap((entry) => entry.files ?? []), ...commonFiles(commands)]
  const codes = [...exitCodeMeanings].map(([code, meaning]) => `  ${String(code).padEnd(4)}${meaning}`)
  return [
    ['Examples:', ...examples],
    ['Files:', ...renderRows(files)],
    ['Environment:', ...renderRows(environment)],
    ['Exit codes:', ...codes],
  ]
    .filter((section) => section.length > 1)
    .map((section) => section.join('\n'))
    .join('\n\n')
}

const environment: readonly ParameterHelp[] = [
  { syntax: 'NODE_NAME', description: 'name of this node, when the configuration does not say it' },
  { syntax: 'EDGEMESH_ADDON_DIR', description: 'folder on a mount without noexec, for native code' },
  { syntax: 'EDGEMESH_DEBUG', description: 'set to 1 to print where an error comes from' },
]

/** Files that every long-running command uses. */
function commonFiles(commands: readonly CommandEntry[]): readonly ParameterHelp[] {
  if (!commands.some(({ group }) => group === 'Run')) return []
  return [
    { syntax: '/etc/edgemesh/psk', description: 'the pre-shared key, the same on all nodes; mode 0600' },
    { syntax: '/var/lib/edgemesh/ROLE', description: 'identity key and what survives a restart' },
    { syntax: '/run/edgemesh/ROLE', description: 'lock and control socket' },
  ]
}

function renderRows(rows: readonly ParameterHelp[]): string[] {
  const width = Math.max(...rows.map(({ syntax }) => syntax.length)) + 2
  return rows.map(({ syntax, description }) => `  ${syntax.padEnd(width)}${description}`)
}

/** Which folder of `src` may import which, and who owns which Node module. */

const building = ['catalog', 'loadbalancer', 'net', 'linux', 'observability', 'runtime', 'model']

/** What each folder may import. */
export const mayImport: Readonly<Record<string, readonly string[]>> = {
  'main.ts': ['cli'],
  cli: ['commands', 'config', 'observability', 'runtime'],
  commands: ['config', 'kube', 'dns', 'proxy', 'gateway', 'tunnel', ...building],
  config: ['kube', 'dns', 'proxy', 'gateway', 'tunnel', 'linux', 'observability', 'model'],
  gateway: ['proxy', ...building],
  proxy: building,
  dns: building,
  tunnel: building,
  kube: building,
  catalog: ['model', 'runtime'],
  loadbalancer: ['model'],
  net: ['model', 'runtime', 'observability'],
  linux: ['model', 'runtime', 'observability'],
  observability: ['runtime', 'model'],
  runtime: [],
  model: [],
}

/** Node modules that only some folders may touch, so that side effects stay where readers expect them. */
export const ownedBuiltins: Readonly<Record<string, readonly string[]>> = {
  'node:child_process': ['linux'],
  'node:net': ['net', 'observability'],
  'node:dgram': ['net'],
}

/** Folders that import no Node module at all. */
export const pureFolders: readonly string[] = ['model', 'catalog', 'loadbalancer']

/** The table as a Mermaid graph; the building blocks are one box to keep it readable. */
export function renderGraph(): string {
  const lines = Object.entries(mayImport).flatMap(([from, targets]) => {
    const isFeature = building.every((block) => targets.includes(block))
    const shown = isFeature ? [...targets.filter((target) => !building.includes(target)), 'building'] : targets
    return shown.map((to) => `  ${from.replace('.ts', '')} --> ${to}`)
  })
  return ['```mermaid', 'graph TD', `  building["building blocks: ${building.join(', ')}"]`, ...lines, '```'].join('\n')
}

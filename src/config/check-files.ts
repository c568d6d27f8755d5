import { readFileSync, type Stats, statSync } from 'node:fs'
import { problemAt } from './explain-issues.ts'
import type { LoadedConfig } from './load-config.ts'
import { ConfigError, type ConfigProblem } from './problem.ts'

type TunnelConfig = LoadedConfig['config']['modules']['edgeTunnel']
type Explanation = Pick<ConfigProblem, 'message' | 'remedy'>

/** Checks the files that a configuration names. Throws a `ConfigError` with everything that is wrong. */
export function checkFiles({ config, document }: LoadedConfig): void {
  const problems = checkKeys(config.modules.edgeTunnel, document)
  if ('kubeAPIConfig' in config && config.kubeAPIConfig.manifests !== '') {
    const explanation = explainFolder(config.kubeAPIConfig.manifests)
    if (explanation) problems.push(problemAt(document, ['kubeAPIConfig', 'manifests'], explanation))
  }
  if (problems.length > 0) throw new ConfigError(problems)
}

function checkKeys({ enable, psk }: TunnelConfig, document: LoadedConfig['document']): ConfigProblem[] {
  if (!enable || !psk.enable) return []
  return (['path', 'previousPath'] as const).flatMap((key) => {
    const explanation = psk[key] === '' ? undefined : explainPsk(psk[key])
    return explanation ? [problemAt(document, ['modules', 'edgeTunnel', 'psk', key], explanation)] : []
  })
}

function explainPsk(file: string): Explanation | undefined {
  const generate = `write one: (umask 077; openssl rand -base64 32 > ${file}), the same on all nodes`
  try {
    const status = statSync(file)
    if (status.isDirectory()) return { message: `${file} is a directory`, remedy: 'name the file that holds the key' }
    if (isReadableByAll(status)) {
      const remedy = `run chmod 600 ${file} (for a Kubernetes volume, set defaultMode: 0600)`
      return { message: `${file} can be read by every user`, remedy }
    }
    const isEmpty = readFileSync(file, 'utf8').trim() === ''
    return isEmpty ? { message: `${file} is empty`, remedy: generate } : undefined
  } catch (error) {
    return explainFailure(file, error, generate)
  }
}

function explainFolder(folder: string): Explanation | undefined {
  const create = 'create it, or correct the path'
  try {
    const remedy = 'name the folder that holds the manifests'
    return statSync(folder).isDirectory() ? undefined : { message: `${folder} is no directory`, remedy }
  } catch (error) {
    return explainFailure(folder, error, create)
  }
}

function explainFailure(path: string, error: unknown, missingRemedy: string): Explanation {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT' || code === 'ENOTDIR') return { message: `${path} does not exist`, remedy: missingRemedy }
  if (code === 'EACCES' || code === 'EPERM') {
    const remedy = 'run as root, or give this user the right to read it'
    return { message: `${path} cannot be read: permission denied`, remedy }
  }
  return {
    message: `${path} cannot be read: ${error instanceof Error ? error.message : error}`,
    remedy: 'check the file',
  }
}

function isReadableByAll(status: Stats): boolean {
  return (status.mode & 0o004) !== 0
}

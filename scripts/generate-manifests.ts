/**
 * Writes manifests/*.yaml: `generate-manifests.ts`. They are what `edgemesh manifests` prints, with placeholders that
 * the API server and the kubelet refuse. A test compares the files with what this makes.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { istioEntries } from '../src/commands/manifests/istio-kinds.ts'
import { type ManifestSettings, renderManifest } from '../src/commands/manifests/manifest.ts'
import { entriesOf } from '../src/commands/manifests.ts'

/** What a person has to fill in. */
export const placeholders: ManifestSettings = {
  namespace: 'kubeedge',
  // Capitals are refused by the kubelet, and a blank in base64 by the API server.
  image: 'REGISTRY/edgemesh:TAG',
  servers: ['mesh.example.org:20004'],
  psk: '(openssl rand -base64 32 | base64)',
}

const head = `# Made by scripts/generate-manifests.ts; do not edit. To apply, let this print it with your values:
#   edgemesh manifests`

/** Each file of manifests/, as it must be. */
export function renderManifestFiles(): ReadonlyMap<string, string> {
  const withValues = '--server ADDRESS --image IMAGE | kubectl apply -f -'
  const ofRole = (role: string) =>
    `${head} --role ${role} ${withValues}\n${renderManifest(entriesOf(role, placeholders))}`
  return new Map([
    ['edgemesh-agent.yaml', ofRole('agent')],
    ['edgemesh-gateway.yaml', ofRole('gateway')],
    ['edgemesh-server.yaml', ofRole('server')],
    ['istio-crds.yaml', `${head} --role crds | kubectl apply -f -\n${renderManifest(istioEntries())}`],
  ])
}

if (import.meta.main) {
  for (const [name, text] of renderManifestFiles()) {
    writeFileSync(fileURLToPath(new URL(`../manifests/${name}`, import.meta.url)), text)
  }
}

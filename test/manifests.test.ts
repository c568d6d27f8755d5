/** manifests/*.yaml are what the builders make, hang together, and ask for no more rights than the agent uses. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { renderManifestFiles } from '../scripts/generate-manifests.ts'
import { agentKinds } from '../src/commands/metadata-source.ts'
import { parseConfig, type Role } from '../src/config/index.ts'
import { watchedKinds } from '../src/kube/api/resources.ts'

const folder = new URL('../manifests/', import.meta.url)

interface KubeObject {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly data: Readonly<Record<string, string>>
  readonly rules: readonly { readonly apiGroups: string[]; readonly resources: string[]; readonly verbs: string[] }[]
  readonly spec: {
    readonly selector: { readonly matchLabels: object }
    readonly template: { readonly metadata: { readonly labels: object }; readonly spec: PodSpec }
  }
}

interface PodSpec {
  readonly serviceAccountName: string
  readonly automountServiceAccountToken?: boolean
  readonly hostPID?: boolean
  readonly volumes: readonly {
    readonly name: string
    readonly configMap?: { readonly name: string }
    readonly secret?: { readonly secretName: string; readonly defaultMode: number }
    readonly hostPath?: { readonly path: string }
  }[]
  readonly containers: readonly {
    readonly image: string
    readonly command: readonly string[]
    readonly securityContext: {
      readonly privileged: boolean
      readonly allowPrivilegeEscalation: boolean
      readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] }
    }
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
    readonly livenessProbe?: object
  }[]
}

function objectsOf(name: string): KubeObject[] {
  return parseAllDocuments(readFileSync(new URL(name, folder), 'utf8')).map((document): KubeObject => {
    assert.deepEqual(document.errors, [])
    return document.toJS()
  })
}

function oneOf(kind: string, name: string): KubeObject {
  const [object, ...others] = objectsOf(name).filter((candidate) => candidate.kind === kind)
  assert.ok(object && others.length === 0)
  return object
}

test('manifests/ holds what the builders make; run node scripts/generate-manifests.ts', () => {
  const expected = renderManifestFiles()
  const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'))
  assert.deepEqual(names.sort(), [...expected.keys()].sort())
  for (const [name, text] of expected) assert.equal(readFileSync(new URL(name, folder), 'utf8'), text, name)
})

test('the placeholders cannot run: no API server takes the key, and no kubelet the image', () => {
  for (const name of ['edgemesh-agent.yaml', 'edgemesh-gateway.yaml', 'edgemesh-server.yaml']) {
    assert.doesNotMatch(oneOf('Secret', name).data['psk'] ?? '', /^[A-Za-z0-9+/]*={0,2}$/)
    const workload = objectsOf(name).find(({ spec }) => spec?.template !== undefined)
    assert.match(workload?.spec.template.spec.containers[0]?.image ?? '', /^[A-Z]+\//)
  }
})

test('the role of the agent grants to list and watch what the sources watch, and nothing else', () => {
  const watched = agentKinds.flatMap((kind): readonly { apiVersion: string; plural: string }[] => {
    return watchedKinds[kind].resources
  })
  const wanted = watched.map(({ apiVersion, plural }) => `${groupOf(apiVersion)}/${plural}`)
  assert.ok(wanted.length >= 4)
  const { rules } = oneOf('ClusterRole', 'edgemesh-agent.yaml')
  const granted = rules.flatMap((rule) =>
    rule.apiGroups.flatMap((group) => rule.resources.map((plural) => `${group}/${plural}`)),
  )
  assert.deepEqual(granted.sort(), [...new Set(wanted)].sort())
  for (const { verbs } of rules) assert.deepEqual(verbs, ['list', 'watch'])
})

for (const [role, kind, unit] of [
  ['agent', 'DaemonSet', 'edgemesh-agent.service'],
  ['server', 'Deployment', 'edgemesh-server.service'],
  ['gateway', 'Deployment', 'edgemesh-gateway.service'],
] as const) {
  const file = `edgemesh-${role}.yaml`

  suite(`manifests/${file}`, () => {
    const workload = () => oneOf(kind, file)
    const pod = () => workload().spec.template.spec
    const container = () => {
      const [first, ...others] = pod().containers
      assert.ok(first && others.length === 0)
      return first
    }
    const pathOfVolume = (test: (volume: PodSpec['volumes'][number]) => boolean) => {
      const volume = pod().volumes.find(test)
      return container().volumeMounts.find(({ name }) => name === volume?.name)?.mountPath
    }

    test('names only accounts, ConfigMaps and Secrets that it brings', () => {
      const has = (kindOfObject: string) => oneOf(kindOfObject, file).metadata.name
      assert.equal(pod().serviceAccountName, has('ServiceAccount'))
      const { volumes } = pod()
      assert.deepEqual(
        volumes.flatMap(({ configMap }) => configMap?.name ?? []),
        [has('ConfigMap')],
      )
      const secrets = volumes.flatMap(({ secret }) => secret?.secretName ?? [])
      assert.deepEqual(
        secrets.filter((name) => name !== 'edgemesh-metaserver'),
        [has('Secret')],
      )
      assert.deepEqual(workload().spec.selector.matchLabels, workload().spec.template.metadata.labels)
    })

    test('puts the configuration, the key and the state where the program looks for them', () => {
      const configuration = configOf(role)
      assert.equal(
        pathOfVolume(({ configMap }) => configMap !== undefined),
        '/etc/edgemesh/config',
      )
      const psk = pathOfVolume(({ secret }) => secret?.secretName === 'edgemesh-psk')
      assert.equal(configuration.modules.edgeTunnel.psk.path, `${psk}/psk`)
      for (const path of [configuration.stateDir, configuration.runtimeDir]) {
        // The same path as on the node, so that both mean one place.
        const mount = pathOfVolume(({ hostPath }) => hostPath !== undefined && path.startsWith(`${hostPath.path}/`))
        assert.ok(mount !== undefined && path.startsWith(`${mount}/`), path)
      }
    })

    test('shows Secrets to root alone', () => {
      for (const { secret } of pod().volumes) {
        if (secret !== undefined) assert.equal(secret.defaultMode & 0o077, 0)
      }
    })

    test('has the capabilities of the systemd unit, or fewer, and no privileges', () => {
      const { privileged, allowPrivilegeEscalation, capabilities } = container().securityContext
      assert.deepEqual([privileged, allowPrivilegeEscalation, capabilities.drop], [false, false, ['ALL']])
      const text = readFileSync(new URL(`../systemd/${unit}`, import.meta.url), 'utf8')
      const ofUnit = /^CapabilityBoundingSet=(.*)$/m
        .exec(text)?.[1]
        ?.split(' ')
        .map((name) => name.replace('CAP_', ''))
      assert.ok(ofUnit)
      const added = capabilities.add ?? []
      assert.deepEqual(
        added.filter((name) => !ofUnit.includes(name)),
        [],
      )
      assert.equal(pod().hostPID, undefined)
    })

    test('shares no folder of the systemd unit that goes when a unit of another role stops', () => {
      const text = readFileSync(new URL(`../systemd/${unit}`, import.meta.url), 'utf8')
      const folder = /^RuntimeDirectory=(.*)$/m.exec(text)?.[1]
      assert.equal(`/run/${folder}`, configOf(role).runtimeDir)
    })

    test('runs a command of the executable', () => {
      assert.deepEqual(container().command, ['/usr/local/bin/edgemesh', role])
      assert.equal(container().livenessProbe, undefined)
    })
  })
}

test('the role of the gateway reads objects in all namespaces, but no Secret, and writes status of Istio objects', () => {
  const { rules } = oneOf('ClusterRole', 'edgemesh-gateway.yaml')
  const writing = rules.filter(({ verbs }) => verbs.includes('patch'))
  assert.deepEqual(
    writing.map(({ resources, verbs }) => [resources, verbs]),
    [
      [
        ['gateways/status', 'virtualservices/status'],
        ['get', 'patch'],
      ],
    ],
  )
  const reading = rules.filter((rule) => !writing.includes(rule))
  for (const { verbs } of reading) assert.deepEqual(verbs, ['list', 'watch'])
  const granted = reading.flatMap(({ resources }) => resources)
  assert.deepEqual(granted.sort(), [
    'destinationrules',
    'endpoints',
    'endpointslices',
    'gateways',
    'nodes',
    'pods',
    'services',
    'virtualservices',
  ])
})

test('the pod of the gateway has the labels by which Gateways select it', () => {
  const { labels } = oneOf('Deployment', 'edgemesh-gateway.yaml').spec.template.metadata
  const { modules } = configOf('gateway')
  for (const [key, value] of Object.entries(modules.edgeGateway.labels)) assert.equal(Reflect.get(labels, key), value)
})

test('the pod of the server has no token for the API', () => {
  assert.equal(oneOf('Deployment', 'edgemesh-server.yaml').spec.template.spec.automountServiceAccountToken, false)
  assert.ok(!objectsOf('edgemesh-server.yaml').some(({ kind }) => kind.startsWith('ClusterRole')))
})

function configOf<R extends Role>(role: R) {
  const name = `edgemesh-${role}.yaml`
  const { config, notices } = parseConfig(role, oneOf('ConfigMap', name).data[name] ?? '', name, {
    NODE_NAME: 'edge-a1',
  })
  assert.deepEqual(notices, [])
  return config
}

function groupOf(apiVersion: string): string {
  return apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : ''
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { objectKinds } from '../../catalog/index.ts'
import { FolderState } from './folder-state.ts'
import { parseManifestFile } from './manifest-file.ts'

const allKinds = new Set(objectKinds)

const service = (name: string, ip = '10.96.0.1') => `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: shop
spec:
  clusterIP: ${ip}
  ports:
    - port: 80
`

const idsIn = (text: string, file = 'a.yaml') => parseManifestFile(file, text, allKinds).entries.map(({ id }) => id)
const problemsIn = (text: string, file = 'a.yaml') =>
  parseManifestFile(file, text, allKinds).problems.map(({ line, message }) => `${line} ${message}`)

test('a file may hold many documents, empty ones and comments among them', () => {
  const text = `# first\n${service('a')}---\n---\n# nothing\n---\n${service('b')}...\n`
  assert.deepEqual(idsIn(text), ['Service shop/a', 'Service shop/b'])
  assert.deepEqual(problemsIn(text), [])
  assert.deepEqual([idsIn(''), problemsIn('')], [[], []])
})

test('Lists are opened; items of a typed list need no kind of their own', () => {
  const item = { metadata: { name: 'a' }, spec: { clusterIP: 'None' } }
  const typed = JSON.stringify({ apiVersion: 'v1', kind: 'ServiceList', items: [item] })
  const mixed = JSON.stringify({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-a' } },
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } },
      { apiVersion: 'v1', kind: 'Service', ...item },
    ],
  })
  const slices = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSliceList, items: [{metadata: {name: s, labels: {kubernetes.io/service-name: a}}, addressType: IPv4}]}`
  assert.deepEqual(idsIn(typed, 'a.json'), ['Service default/a'])
  assert.deepEqual(idsIn(mixed), ['Node edge-a', 'Pod default/p', 'Service default/a'])
  assert.deepEqual(idsIn(slices), ['EndpointSlice default/s'])
})

test('both versions of EndpointSlice and Endpoints are read; other kinds are passed over silently', () => {
  const slice = (version: string) => `apiVersion: discovery.k8s.io/${version}
kind: EndpointSlice
metadata: {name: s-${version}, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
`
  const others = [
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: 1}\n',
    'apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\n',
    'apiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\nspec: {}\n',
    'apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n',
    'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: stray}\naddressType: IPv4\n',
  ]
  const endpoints = 'apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets: [{addresses: [{ip: 10.0.0.1}]}]\n'
  const text = [slice('v1'), slice('v1beta1'), endpoints, ...others].join('---\n')
  const { entries, problems } = parseManifestFile('a.yml', text, allKinds)
  assert.deepEqual(problems, [])
  assert.deepEqual(
    entries.flatMap(({ objects }) => objects.map(({ kind, object }) => `${kind} ${object.name}`)),
    ['endpointSlices s-v1', 'endpointSlices s-v1beta1', 'endpointSlices a:0:IPv4'],
  )
})

test('a syntax error is told by line, and the other documents of the file are read', () => {
  const text = `${service('a')}---\nkind: [1\n---\n${service('b')}`
  assert.deepEqual(idsIn(text), ['Service shop/a', 'Service shop/b'])
  const [problem, ...more] = problemsIn(text)
  assert.match(problem ?? '', /^1[12] /)
  assert.deepEqual(more, [])
})

test('an invalid field is told by its own line, a missing one by that of what should hold it', () => {
  const bad = `${service('a')}---\n${service('b', '10.96.0.999')}---\n${service('c').replace('port: 80', 'name: x')}`
  assert.deepEqual(problemsIn(bad), [
    '17 spec.clusterIP: must be an IP address, found "10.96.0.999"',
    '29 spec.ports[0].port: is missing, found nothing',
  ])
})

test('the line of an invalid item of a JSON list is found', () => {
  const text =
    '{\n\t"apiVersion": "v1", "kind": "ServiceList",\n\t"items": [\n\t\t{"metadata": {\n\t\t\t"name": ""}}\n\t]\n}\n'
  assert.deepEqual(problemsIn(text, 'a.json'), ['5 metadata.name: is missing, found ""'])
  assert.match(problemsIn('{"a": }\n', 'a.json')[0] ?? '', /^1 /)
})

test('a Service without an address is refused, since nothing allocates one here', () => {
  const text = service('a').replace('  clusterIP: 10.96.0.1\n', '')
  assert.deepEqual(problemsIn(text), [
    '7 spec.clusterIP: must be an address or None; in a folder of manifests nothing allocates one, found nothing',
  ])
})

test('text that is no Kubernetes object is told, not ignored', () => {
  assert.match(problemsIn('replicas: 3\n')[0] ?? '', /^1 kind: is missing/)
  assert.match(problemsIn('just text\n')[0] ?? '', /^1 kind: is missing/)
  assert.match(problemsIn('- a\n- b\n')[0] ?? '', /^1 kind: is missing/)
})

test('anchors and merge keys work, and a bomb of aliases is refused', () => {
  const merged = `${service('a').replace('metadata:', 'metadata: &m')}---\n`
  assert.deepEqual(idsIn(merged), ['Service shop/a'])
  const levels = Array.from({ length: 12 }, (_, level) => {
    return `l${level}: &l${level} [${Array.from({ length: 9 }, () => (level === 0 ? 'x' : `*l${level - 1}`)).join(',')}]`
  })
  const [problem] = problemsIn(levels.join('\n'))
  assert.match(problem ?? '', /alias/i)
})

test('rules of every version and Pods are read when they are asked for, with notes of what is left out', () => {
  const rule = (version: string) => `apiVersion: networking.istio.io/${version}
kind: DestinationRule
metadata: {name: r-${version}, namespace: shop}
spec:
  host: web
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    tls: {mode: ISTIO_MUTUAL}
`
  const pod = 'apiVersion: v1\nkind: Pod\nmetadata: {name: web-0}\nstatus: {podIP: 10.0.0.1}\n'
  const text = [rule('v1alpha3'), rule('v1beta1'), rule('v1'), pod].join('---\n')
  const { entries, problems, notes } = parseManifestFile('a.yaml', text, new Set(['destinationRules', 'pods']))
  const ids = ['DestinationRule shop/r-v1alpha3', 'DestinationRule shop/r-v1beta1', 'DestinationRule shop/r-v1']
  assert.deepEqual([entries.map(({ id }) => id), problems], [[...ids, 'Pod default/web-0'], []])
  assert.deepEqual(
    notes.map(({ line, message }) => `${line} ${message}`),
    [8, 17, 26].map((line) => `${line} spec.trafficPolicy.tls: is not supported, found {"mode":"ISTIO_MUTUAL"}`),
  )
  assert.deepEqual(parseManifestFile('a.yaml', text, new Set(['services'])).entries, [])
})

function folderOf(files: Readonly<Record<string, string>>): FolderState {
  const folder = new FolderState()
  for (const [name, text] of Object.entries(files)) folder.set(name, parseManifestFile(name, text, allKinds))
  return folder
}

const servicesOf = (folder: FolderState) =>
  folder.fold().objects.services?.map(({ name, clusterIPs }) => `${name} ${clusterIPs[0]}`)

test('files are folded into one set of objects', () => {
  const folder = folderOf({ 'a.yaml': service('a'), 'b.yaml': service('b', '10.96.0.2') })
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.1', 'b 10.96.0.2'])
  folder.delete('a.yaml')
  assert.deepEqual([servicesOf(folder), folder.size], [['b 10.96.0.2'], 1])
})

test('when two files define one object the later name wins, whatever was read first', () => {
  const folder = folderOf({ 'b.yaml': service('a', '10.96.0.2'), 'a.yaml': service('a') })
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.2'])
  assert.deepEqual(folder.fold().overrides, [{ id: 'Service shop/a', file: 'b.yaml', overriddenFile: 'a.yaml' }])
  folder.delete('b.yaml')
  assert.deepEqual([servicesOf(folder), folder.fold().overrides], [['a 10.96.0.1'], []])
})

test('a file that breaks keeps its last good objects and leaves the other files alone', () => {
  const folder = folderOf({ 'a.yaml': service('a'), 'b.yaml': service('b') })
  folder.set('a.yaml', parseManifestFile('a.yaml', `${service('new')}---\n${service('a', 'bad')}`, allKinds))
  folder.set('b.yaml', parseManifestFile('b.yaml', service('b', '10.96.0.7'), allKinds))
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.1', 'b 10.96.0.7'])
  assert.deepEqual(
    folder.problems.map(({ file, line }) => `${file}:${line}`),
    ['a.yaml:17'],
  )
  folder.set('a.yaml', parseManifestFile('a.yaml', 'x: [', allKinds))
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.1', 'b 10.96.0.7'])
  folder.set('a.yaml', parseManifestFile('a.yaml', service('a', '10.96.0.5'), allKinds))
  assert.deepEqual([servicesOf(folder), folder.problems], [['a 10.96.0.5', 'b 10.96.0.7'], []])
})

test('a file that never was good contributes those of its objects that are', () => {
  const folder = folderOf({ 'a.yaml': `${service('a')}---\n${service('b', 'bad')}` })
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.1'])
  folder.set('a.yaml', parseManifestFile('a.yaml', `${service('a', '10.96.0.3')}---\n${service('b', 'bad')}`, allKinds))
  assert.deepEqual(servicesOf(folder), ['a 10.96.0.3'])
})

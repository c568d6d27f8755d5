/**
 * Watches EndpointSlices as an agent does, and prints `NAME MILLISECONDS-SINCE-1970` for each event: `watch-slices.ts
 * SETTINGS`, as JSON.
 */
import { readFileSync } from 'node:fs'
import { get } from 'node:https'
import process from 'node:process'
import { createInterface } from 'node:readline'

const { url, caFile, token }: Record<string, string> = JSON.parse(process.argv[2] ?? '')
const headers = { authorization: `Bearer ${token}`, 'user-agent': 'edgemesh-test' }
const path = '/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices?watch=true&timeoutSeconds=3600'
get(`${url}${path}`, { agent: false, ca: readFileSync(caFile ?? ''), headers }, (response) => {
  console.log('watching')
  createInterface({ input: response }).on('line', (line) => {
    const at = Date.now()
    const name = /"name":"([^"]+)"/.exec(line)?.[1]
    console.log(`${name} ${at}`)
  })
})

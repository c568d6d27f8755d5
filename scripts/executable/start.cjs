/**
 * What Node starts inside the executable: it runs the bundle, which is an asset of the executable, with V8's code
 * cache, which is another.
 *
 * The cache comes as an asset and not through Node's own option for it, because that cache differs in each build, and
 * can only be made for the architecture that builds. A cache that does not fit (other V8 flags) is ignored by V8.
 */
'use strict'

const process = require('node:process')
const { Script } = require('node:vm')

const { getAssetKeys, getRawAsset } = process.getBuiltinModule('node:sea')

function runBundle() {
  const source = Buffer.from(getRawAsset('edgemesh.cjs')).latin1Slice()
  const cache = getAssetKeys().includes('code-cache') ? { cachedData: Buffer.from(getRawAsset('code-cache')) } : {}
  const script = new Script(source, { filename: 'edgemesh.cjs', ...cache })
  if (script.cachedDataRejected && process.env['EDGEMESH_DEBUG']) process.stderr.write('code cache not used\n')
  script.runInThisContext()(exports, require, module, process.execPath, '/')
}

// Whoever can set this for a service would switch off that it verifies certificates.
delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
runBundle()

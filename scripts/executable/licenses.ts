/** The licences of everything that is inside the executable, for `edgemesh licenses`. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Metafile } from 'esbuild'

/** A package whose code is in the executable. */
export interface ThirdPartyPackage {
  readonly name: string
  readonly version: string
  /** SPDX expression. */
  readonly license: string
  /** Of the licence and notice files, or the standard text where the package has none. */
  readonly text: string
}

/** Licences that allow what we do: pass on the code inside an executable under other terms, with the texts beside it. */
const accepted = ['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0', 'Unlicense']

const licenseFile = /^(un)?(licen[cs]e|copying|notice)/i

/** Folders of the packages that have at least one file in the bundle; relative to the root, sorted. */
export function packageFoldersOf(metafile: Metafile): string[] {
  const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs))
  const folders = inputs.flatMap((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? [])
  return [...new Set(folders)].sort()
}

/** Reads name, version and licence of each package; throws when one has no licence that is known to be fine. */
export function readPackages(root: string, folders: readonly string[], apacheText: string): ThirdPartyPackage[] {
  const byId = new Map<string, ThirdPartyPackage>()
  for (const folder of folders) {
    const found = readPackage(join(root, folder), apacheText)
    byId.set(`${found.name}@${found.version}`, found)
  }
  return [...byId.values()].sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1))
}

function readPackage(folder: string, apacheText: string): ThirdPartyPackage {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const alternatives = typeof license === 'string' ? license.replace(/[()]/g, '').split(' OR ') : []
  if (!alternatives.some((alternative) => accepted.includes(alternative))) {
    throw new Error(`${name} ${version} has the licence ${JSON.stringify(license)}: decide whether it may be bundled`)
  }
  const texts = readdirSync(folder)
    .filter((file) => licenseFile.test(file))
    .sort()
    .map((file) => readFileSync(join(folder, file), 'utf8').trim())
  if (texts.length === 0 && !alternatives.includes('Apache-2.0')) {
    throw new Error(`${name} ${version} has no file with its licence, and ${license} needs its copyright line`)
  }
  return { name, version, license, text: texts.length > 0 ? texts.join('\n\n') : apacheText.trim() }
}

/** A list of all, then each text once, below the names of those that it belongs to. */
export function renderLicenses(packages: readonly ThirdPartyPackage[]): string {
  const titleOf = ({ name, version, license }: ThirdPartyPackage) => `${name} ${version}: ${license}`
  const byText = Map.groupBy(packages, ({ text }) => text)
  const rule = '-'.repeat(80)
  return [
    'edgemesh is licensed under Apache-2.0. Inside it are:',
    '',
    ...packages.map((found) => `  ${titleOf(found)}`),
    ...[...byText].flatMap(([text, owners]) => ['', rule, ...owners.map(titleOf), rule, '', text]),
    '',
  ].join('\n')
}

// usage: node kubernetes.js FOLDER FILE...: checks FILE... against Kubernetes' schema, as the packages
// kubernetes-models, typescript and yaml in FOLDER/node_modules have it; prints what is wrong.
// node kubernetes.js FOLDER --command ROLE FILE: the command line of a role's container.
// node kubernetes.js FOLDER --file NAME FILE: a file of the ConfigMap.
'use strict';
const fs = require('fs'), path = require('path'), { execFileSync } = require('child_process');
const [folder, ...args] = process.argv.slice(2);
const load = (name) => require(require.resolve(name, { paths: [path.resolve(folder)] }));
const read = (file) =>
    load('yaml').parseAllDocuments(fs.readFileSync(file, 'utf8')).map((d) => {
        if (d.errors.length) throw d.errors[0];
        return d.toJS();
    });
const name = (d) => `${d.kind} ${d.metadata.name}`;

// What a validator of values finds, and, as the types of an object's literal, keys that are unknown.
function schema(docs) {
    const wrong = [];
    let ts = '';
    docs.forEach((d, i) => {
        const module = `kubernetes-models/${d.apiVersion}/${d.kind}`;
        try {
            new (load(module)[d.kind])(d).validate();
        } catch (e) {
            wrong.push(`${name(d)}: ${e.message}`);
        }
        ts += `import { I${d.kind} as T${i} } from '${module}';\nexport const d${i}: T${i} = ${JSON.stringify(d)};\n`;
    });
    fs.writeFileSync(path.join(folder, 'objects.ts'), ts);
    try {
        execFileSync(path.resolve(folder, 'node_modules/.bin/tsc'), ['--noEmit', '--strict', '--skipLibCheck',
            '--moduleResolution', 'node16', '--module', 'node16', 'objects.ts'], { cwd: folder });
    } catch (e) {
        wrong.push(String(e.stdout || e.message).trim());
    }
    return wrong;
}

// What no schema says: names that objects call each other by.
function references(docs) {
    const wrong = [];
    const sets = docs.filter((d) => d.kind === 'StatefulSet');
    const covers = (selector, labels) => Object.entries(selector).every(([k, v]) => labels[k] === v);
    const chosen = (selector) => sets.filter((s) => covers(selector, s.spec.template.metadata.labels));
    const there = (kind, n) => docs.some((d) => d.kind === kind && d.metadata.name === n);
    for (const s of sets) {
        const spec = s.spec.template.spec;
        const c = spec.containers[0], volumes = spec.volumes.map((v) => v.name);
        if (!covers(s.spec.selector.matchLabels, s.spec.template.metadata.labels)) wrong.push(`${name(s)}: selects others`);
        if (!there('Service', s.spec.serviceName)) wrong.push(`${name(s)}: no Service ${s.spec.serviceName}`);
        for (const m of c.volumeMounts) if (!volumes.includes(m.name)) wrong.push(`${name(s)}: no volume ${m.name}`);
        for (const v of spec.volumes)
            if (v.configMap && !there('ConfigMap', v.configMap.name)) wrong.push(`${name(s)}: no ConfigMap ${v.configMap.name}`);
        for (const p of ['startupProbe', 'livenessProbe', 'readinessProbe'])
            if (!c.ports.some((x) => x.name === c[p].httpGet.port)) wrong.push(`${name(s)}: ${p} asks a port that is none`);
    }
    for (const d of docs) {
        if (d.kind === 'Service') {
            const pods = chosen(d.spec.selector);
            if (pods.length !== 1) wrong.push(`${name(d)}: chooses ${pods.length} sets of pods`);
            for (const p of d.spec.ports)
                if (!pods[0].spec.template.spec.containers[0].ports.some((x) => x.name === p.targetPort))
                    wrong.push(`${name(d)}: pods have no port ${p.targetPort}`);
        }
        if (d.kind === 'PodDisruptionBudget' && chosen(d.spec.selector.matchLabels).length !== 1) wrong.push(`${name(d)}: chooses nothing`);
        if (d.kind === 'HorizontalPodAutoscaler' && !there(d.spec.scaleTargetRef.kind, d.spec.scaleTargetRef.name))
            wrong.push(`${name(d)}: scales what is not there`);
    }
    return wrong;
}

if (args[0] === '--command') {
    const set = read(args[2]).find((d) => d.kind === 'StatefulSet' && d.metadata.labels['app.kubernetes.io/component'] === args[1]);
    const c = set.spec.template.spec.containers[0];
    console.log([...c.command, ...c.args].join('\n'));
} else if (args[0] === '--file') {
    process.stdout.write(read(args[2]).find((d) => d.kind === 'ConfigMap').data[args[1]]);
} else {
    const docs = args.flatMap(read);
    const wrong = [...schema(docs), ...references(docs)];
    wrong.forEach((w) => console.log(w));
    process.exit(wrong.length || docs.length < 8 ? 1 : 0);
}
